-- On how many days a household ever bought a category, after each landing that changed what is known of the two.
-- The newest row before a Monday holds for it, and it landed no earlier than the last day bought: a bounded look-up.
{{ config(materialized='incremental', incremental_strategy='replace_range', unique_key='landed_on') }}

with changed as (
    select household_id, product_category, landed_on, sum(days_delta) as days_delta
    from {{ ref('household_category_day_deltas') }}
    where {{ in_landed_range() }}
    group by household_id, product_category, landed_on
),

before as (
    select deltas.household_id, deltas.product_category, sum(deltas.days_delta) as days_ever
    from {{ ref('household_category_day_deltas') }} as deltas
    inner join (select distinct household_id, product_category from changed) as touched
        on deltas.household_id = touched.household_id and deltas.product_category = touched.product_category
    where deltas.landed_on < {{ day('landed_from') }}
    group by deltas.household_id, deltas.product_category
)

select
    changed.household_id,
    changed.product_category,
    changed.landed_on,
    cast(
        coalesce(before.days_ever, 0)
        + sum(changed.days_delta) over (
            partition by changed.household_id, changed.product_category
            order by changed.landed_on rows between unbounded preceding and current row
        ) as integer
    ) as days_ever
from changed
left join before
    on changed.household_id = before.household_id and changed.product_category = before.product_category
