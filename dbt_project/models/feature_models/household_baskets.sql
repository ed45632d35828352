-- What a household's last 60 baskets of merchandise held, as known on a Monday, oldest basket first.
-- A row for every household of which a basket is known.
{{ config(materialized='incremental', incremental_strategy='replace_range', unique_key='as_of') }}

with as_ofs as (
    {{ as_ofs() }}
),

-- `place` numbers a household's versions of baskets through time: millions of rows are ranked by it, without the lists.
versions as (
    select
        household_id,
        event_date,
        landed_on,
        lead(landed_on, 1, {{ for_ever() }}) over (
            partition by household_id, basket_id order by landed_on
        ) as superseded_on,
        products_held,
        products,
        cast(
            row_number() over (partition by household_id order by event_ts, basket_id, landed_on) as integer
        ) as place
    from {{ ref('basket_contents') }}
    where landed_on < {{ day('as_of_to') }}
),

newest as (
    select versions.household_id, as_ofs.as_of, versions.place
    from versions
    inner join as_ofs on versions.landed_on < as_ofs.as_of and versions.superseded_on >= as_ofs.as_of
    where versions.products_held > 0
    qualify row_number() over (partition by versions.household_id, as_ofs.as_of order by versions.place desc) <= 60
),

listed as (
    select
        newest.household_id,
        newest.as_of,
        {{ chained(list_of('versions.products', 'newest.place')) }} as products,
        {{ list_of('versions.products_held', 'newest.place') }} as basket_sizes,
        {{ list_of('cast(newest.as_of - versions.event_date as integer)', 'newest.place') }} as days_ago,
        count(*) as baskets,
        sum(versions.products_held) as products_held,
        min(newest.as_of - versions.event_date) as days_since_basket,
        max(newest.as_of - versions.event_date) as days_since_oldest
    from newest
    inner join versions on newest.household_id = versions.household_id and newest.place = versions.place
    group by newest.household_id, newest.as_of
)

select
    household_id,
    as_of,
    products,
    basket_sizes,
    days_ago,
    cast(baskets as integer) as baskets,
    cast(days_since_basket as integer) as days_since_basket,
    {{ ratio('days_since_oldest - days_since_basket', 'baskets - 1') }} as mean_gap_days,
    {{ ratio('products_held', 'baskets') }} as mean_basket_size,
    cast({{ distinct_items('products') }} as integer) as distinct_products
from listed
