-- Recomputed straight from raw lines for the sampled households, as known before $as_of, by no code the features share.
with versions as (
    select line.*, row_number() over (
        partition by household_id, basket_id, line.product_id order by line.landed_on desc) as newest_first
    from raw.transactions as line
    where line.landed_on < $as_of and event_date < $as_of and household_id in (select unnest($entities))
),

lines as (
    select household_id, basket_id, product_id, event_date, event_ts
    from versions
    inner join raw.products using (product_id)
    where newest_first = 1 and not is_withdrawn and department not in ('FUEL', 'COUPON', 'MISCELLANEOUS')
),

baskets as (
    select
        household_id,
        basket_id,
        count(*) as basket_size,
        $as_of - max(event_date) as days_ago,
        row_number() over (partition by household_id order by max(event_ts) desc, basket_id desc) as newest_first
    from lines
    group by household_id, basket_id
),

listed as (
    select
        household_id,
        array_agg(basket_size order by newest_first desc) as basket_sizes,
        array_agg(days_ago order by newest_first desc) as days_ago,
        count(*) as baskets,
        min(days_ago) as days_since_basket,
        cast(max(days_ago) - min(days_ago) as double) / nullif(count(*) - 1, 0) as mean_gap_days
    from baskets
    where newest_first <= 60
    group by household_id
),

bought as (
    select
        lines.household_id,
        array_agg(lines.product_id order by baskets.newest_first desc, lines.product_id) as products,
        count(distinct lines.product_id) as distinct_products
    from lines
    inner join baskets on lines.household_id = baskets.household_id and lines.basket_id = baskets.basket_id
    where baskets.newest_first <= 60
    group by lines.household_id
)

select
    listed.household_id,
    $as_of as as_of,
    bought.products,
    listed.basket_sizes,
    listed.days_ago,
    listed.baskets,
    listed.days_since_basket,
    listed.mean_gap_days,
    bought.distinct_products
from listed
inner join bought on listed.household_id = bought.household_id
