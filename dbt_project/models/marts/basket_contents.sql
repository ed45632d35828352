-- What a basket holds after each landing that touched it: the version that landed last before a day is the basket as
-- known then. A basket whose lines are all withdrawn has a version without products.
{{ config(materialized='incremental', incremental_strategy='replace_range', unique_key='landed_on') }}

-- A line cannot land before its day, and its versions share that day: no earlier version than this can exist.
with oldest as (
    select min(event_date) as event_date
    from {{ ref('stg_transactions') }}
    where {{ in_landed_range() }}
),

versions as (
    select
        *,
        lead(landed_on, 1, {{ for_ever() }}) over (
            partition by household_id, basket_id, product_id order by landed_on
        ) as superseded_on
    from {{ ref('stg_transactions') }}
    where landed_on >= (select event_date from oldest) and landed_on <= {{ day('landed_to') }}
),

lines as (
    select household_id, basket_id, product_id, event_ts, event_date, landed_on, superseded_on
    from versions
    where is_merchandise and not is_withdrawn
),

touched as (
    select household_id, basket_id, event_date, landed_on
    from lines
    where {{ in_landed_range() }}
    union
    select household_id, basket_id, event_date, superseded_on as landed_on
    from lines
    where {{ in_landed_range('superseded_on') }}
)

select
    touched.household_id,
    touched.basket_id,
    touched.landed_on,
    touched.event_date,
    min(lines.event_ts) as event_ts,
    cast(count(lines.product_id) as integer) as products_held,
    case when count(lines.product_id) > 0 then {{ list_of('lines.product_id', 'lines.product_id') }} end as products
from touched
left join lines
    on touched.household_id = lines.household_id
    and touched.basket_id = lines.basket_id
    and touched.landed_on >= lines.landed_on
    and touched.landed_on < lines.superseded_on
group by touched.household_id, touched.basket_id, touched.landed_on, touched.event_date
