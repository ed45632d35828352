-- Does a household redeem a coupon? One row for each household with a trip in the 84 days before a Monday or a campaign
-- running on it, as known on the Monday; 1 when it redeemed one in the 28 days from the Monday on, as known before the
-- cutoff. Parameters: $as_ofs, a list of Mondays; $cutoff, a day. Deltas sum to what was known, so a correction cancels.
with as_ofs as (
    select unnest($as_ofs) as as_of
),

shoppers as (
    select deltas.household_id, as_ofs.as_of
    from marts.household_day_deltas as deltas
    inner join as_ofs
        on deltas.event_date >= as_ofs.as_of - 84
        and deltas.event_date < as_ofs.as_of
        and deltas.landed_on < as_ofs.as_of
    where deltas.landed_on < $cutoff
    group by deltas.household_id, as_ofs.as_of
    having sum(deltas.lines_delta) > 0
),

targeted as (
    select membership.household_id, as_ofs.as_of
    from marts.campaign_membership as membership
    inner join as_ofs
        on membership.landed_on < as_ofs.as_of
        and membership.superseded_on >= as_ofs.as_of
        and as_ofs.as_of between membership.start_date and membership.end_date
    where membership.landed_on < $cutoff
),

households as (
    select household_id, as_of from shoppers
    union
    select household_id, as_of from targeted
),

redeemed as (
    select deltas.household_id, as_ofs.as_of
    from marts.redemption_day_deltas as deltas
    inner join as_ofs
        on deltas.event_date >= as_ofs.as_of
        and deltas.event_date < as_ofs.as_of + 28
    where deltas.landed_on < $cutoff
    group by deltas.household_id, as_ofs.as_of
    having sum(deltas.redemptions_delta) > 0
)

select
    households.household_id,
    households.as_of,
    cast(case when redeemed.household_id is not null then 1 else 0 end as tinyint) as label
from households
left join redeemed on households.household_id = redeemed.household_id and households.as_of = redeemed.as_of
