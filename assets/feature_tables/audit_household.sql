-- Recomputed straight from raw lines for the sampled households, as known before $as_of, by no code the features share.
with versions as (
    select
        line.*,
        row_number() over (partition by household_id, basket_id, product_id order by landed_on desc) as newest_first
    from raw.transactions as line
    where landed_on < $as_of and event_date < $as_of and event_date >= $as_of - 84
        and household_id in (select unnest($entities))
),

bought as (
    select
        household_id,
        count(distinct case when event_date >= $as_of - 28 then basket_id end) as trips_28d,
        sum(case when event_date >= $as_of - 28 then sales_cents else 0 end) as spend_cents_28d,
        sum(sales_cents) as spend_cents_84d,
        $as_of - max(event_date) as recency_days
    from versions
    inner join raw.products using (product_id)
    where newest_first = 1 and not is_withdrawn and department not in ('FUEL', 'COUPON', 'MISCELLANEOUS')
    group by household_id
),

redeemed as (
    select household_id, count(*) as redemptions_28d
    from (
        select distinct household_id, coupon_upc, campaign_id, event_ts
        from raw.coupon_redemptions
        where landed_on < $as_of and event_date < $as_of and event_date >= $as_of - 28
            and household_id in (select unnest($entities))
    ) as redemptions
    group by household_id
)

select
    coalesce(bought.household_id, redeemed.household_id) as household_id,
    $as_of as as_of,
    trips_28d,
    spend_cents_28d,
    spend_cents_84d,
    recency_days,
    redemptions_28d
from bought
full join redeemed on bought.household_id = redeemed.household_id
