-- Does a household buy a category again? One row for each category of which it bought a line in the 84 days before a
-- Monday, as known on the Monday; 1 when it bought it in the 28 days from the Monday on, as known before the cutoff.
-- Parameters: $as_ofs, a list of Mondays; $cutoff, a day. Deltas sum to the lines as known, so a correction cancels.
with as_ofs as (
    select unnest($as_ofs) as as_of
),

lines as (
    select
        deltas.household_id,
        deltas.product_category,
        as_ofs.as_of,
        sum(
            case
                when deltas.event_date < as_ofs.as_of and deltas.landed_on < as_ofs.as_of then deltas.lines_delta
                else 0
            end
        ) as lines_before,
        sum(case when deltas.event_date >= as_ofs.as_of then deltas.lines_delta else 0 end) as lines_after
    from marts.household_category_day_deltas as deltas
    inner join as_ofs
        on deltas.event_date >= as_ofs.as_of - 84
        and deltas.event_date < as_ofs.as_of + 28
    where deltas.landed_on < $cutoff
    group by deltas.household_id, deltas.product_category, as_ofs.as_of
)

select
    household_id,
    product_category,
    as_of,
    cast(case when lines_after > 0 then 1 else 0 end as tinyint) as label
from lines
where lines_before > 0
