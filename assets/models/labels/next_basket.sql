-- What does a household buy next? One row for each household of which a basket is known on a Monday and that shops in the
-- 14 days from it on: the distinct products of merchandise of its first basket of these days, by rising id, as known
-- before the cutoff. Parameters: $as_ofs, a list of Mondays; $cutoff, a day.
with as_ofs as (
    select unnest($as_ofs) as as_of
),

versions as (
    select
        *,
        lead(landed_on, 1, cast('9999-12-31' as date)) over (
            partition by household_id, basket_id order by landed_on
        ) as superseded_on
    from marts.basket_contents
    where landed_on < $cutoff
),

households as (
    select distinct versions.household_id, as_ofs.as_of
    from versions
    inner join as_ofs
        on versions.landed_on < as_ofs.as_of
        and versions.superseded_on >= as_ofs.as_of
    where versions.products_held > 0
)

select
    versions.household_id,
    as_ofs.as_of,
    versions.products as label
from versions
inner join as_ofs
    on versions.event_date >= as_ofs.as_of
    and versions.event_date < as_ofs.as_of + 14
inner join households on versions.household_id = households.household_id and as_ofs.as_of = households.as_of
where versions.superseded_on = cast('9999-12-31' as date) and versions.products_held > 0
qualify row_number() over (
    partition by versions.household_id, as_ofs.as_of order by versions.event_ts, versions.basket_id
) = 1
