-- Recomputed straight from raw lines for the sampled households, as known before $as_of, by no code the features share.
with versions as (
    select line.*, row_number() over (
        partition by household_id, basket_id, line.product_id order by line.landed_on desc) as newest_first
    from raw.transactions as line
    where line.landed_on < $as_of and event_date < $as_of and event_date >= $as_of - 84
        and household_id in (select unnest($entities))
)

select
    household_id,
    product_category,
    $as_of as as_of,
    count(distinct case when event_date >= $as_of - 28 then event_date end) as days_28d,
    sum(case when event_date >= $as_of - 28 then sales_cents else 0 end) as spend_cents_28d,
    sum(sales_cents) as spend_cents_84d,
    $as_of - max(event_date) as recency_days
from versions
inner join raw.products using (product_id)
where newest_first = 1 and not is_withdrawn
    and product_category is not null and department not in ('FUEL', 'COUPON', 'MISCELLANEOUS')
group by household_id, product_category
