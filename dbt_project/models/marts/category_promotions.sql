-- How many products of a category a store promotes in the week of a Monday, as the week's file said.
{{ config(materialized='incremental', incremental_strategy='replace_range', unique_key='landed_on') }}

-- A product stands in several places at once; it counts once.
with promoted as (
    select
        store_id,
        week_start,
        landed_on,
        product_id,
        max(case when is_in_mailer then 1 else 0 end) as in_mailer,
        max(case when is_on_display then 1 else 0 end) as on_display
    from {{ ref('stg_promotions') }}
    where {{ in_landed_range() }}
    group by store_id, week_start, landed_on, product_id
)

select
    promoted.store_id,
    products.product_category,
    promoted.week_start,
    promoted.landed_on,
    cast(sum(promoted.in_mailer) as bigint) as mailer_products,
    cast(sum(promoted.on_display) as bigint) as display_products
from promoted
inner join {{ ref('stg_products') }} as products
    on promoted.product_id = products.product_id
    and promoted.landed_on >= products.landed_on
    and promoted.landed_on < products.superseded_on
where products.product_category is not null
group by promoted.store_id, products.product_category, promoted.week_start, promoted.landed_on
