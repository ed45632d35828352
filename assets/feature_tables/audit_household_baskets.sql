-- Recomputed straight from raw lines for the sampled households, as known before $as_of, by no code the features share.
with versions as (
    select line.*, row_number() over (
        partition by household_id, basket_id, line.product_id order by line.landed_on desc) as newest_first
    from raw.transactions as line
    where line.landed_on < $as_of and event_date < $as_of and household_id in (select unnest($entities))
),

baskets as (
    select
        household_id,
        basket_id,
        max(event_date) as event_date,
        list_sort(list(product_id)) as products,
        row_number() over (partition by household_id order by max(event_ts) desc, basket_id desc) as newest_first
    from versions
    inner join raw.products using (product_id)
    where newest_first = 1 and not is_withdrawn and department not in ('FUEL', 'COUPON', 'MISCELLANEOUS')
    group by household_id, basket_id
),

listed as (
    select household_id, list(baskets order by newest_first desc) as baskets
    from baskets
    where newest_first <= 60
    group by household_id
)

select
    household_id,
    $as_of as as_of,
    flatten([basket.products for basket in baskets]) as products,
    [len(basket.products) for basket in baskets] as basket_sizes,
    [$as_of - basket.event_date for basket in baskets] as days_ago,
    len(baskets) as baskets,
    days_ago[-1] as days_since_basket,
    (days_ago[1] - days_ago[-1]) / nullif(len(baskets) - 1, 0) as mean_gap_days,
    list_unique(products) as distinct_products
from listed
