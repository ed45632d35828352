-- Recomputed straight from raw lines for the sampled products, as known before $as_of, by no code the features share.
with versions as (
    select line.*, product_category, department, row_number() over (
        partition by household_id, basket_id, line.product_id order by line.landed_on desc) as newest_first
    from raw.transactions as line
    inner join raw.products using (product_id)
    where line.landed_on < $as_of and event_date < $as_of and line.product_id in (select unnest($entities))
),

bought as (
    select * from versions
    where newest_first = 1 and not is_withdrawn and department not in ('FUEL', 'COUPON', 'MISCELLANEOUS')
),

buyers as (
    select product_id, household_id, count(*) as baskets, max(event_date) - min(event_date) as span_days
    from bought
    where event_date >= $as_of - 84
    group by product_id, household_id
),

shares as (
    select
        product_id,
        cast(count(case when baskets > 1 then 1 end) as double) / count(*) as repeat_share_84d,
        cast(sum(case when baskets > 1 then floor(span_days * 1000000 / (baskets - 1)) end) as double)
            / (1000000 * nullif(count(case when baskets > 1 then 1 end), 0)) as mean_gap_days_84d
    from buyers
    group by product_id
)

select
    product_id,
    $as_of as as_of,
    coalesce(max(product_category), 'unknown') as category,
    count(case when event_date >= $as_of - 84 then 1 end) as lines_84d,
    count(distinct case when event_date >= $as_of - 84 then household_id end) as buyers_84d,
    max(repeat_share_84d) as repeat_share_84d,
    max(mean_gap_days_84d) as mean_gap_days_84d,
    count(case when event_date >= $as_of - 28 then 1 end) as lines_28d,
    $as_of - max(event_date) as recency_days
from bought
left join shares using (product_id)
group by product_id
having count(*) >= 10
