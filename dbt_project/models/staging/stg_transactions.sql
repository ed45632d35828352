-- Every version of every line, as it landed, with the product as it was known on that day.
{{ config(materialized='incremental', incremental_strategy='replace_range', unique_key='landed_on') }}

select
    lines.household_id,
    lines.basket_id,
    lines.product_id,
    lines.landed_on,
    lines.event_ts,
    lines.event_date,
    lines.store_id,
    lines.quantity,
    lines.sales_cents,
    lines.retail_disc_cents,
    lines.coupon_disc_cents,
    lines.coupon_match_disc_cents,
    lines.is_withdrawn,
    products.department,
    products.product_category,
    coalesce(products.is_private_brand, false) as is_private_brand,
    coalesce(products.is_merchandise, false) as is_merchandise
from {{ source('raw', 'transactions') }} as lines
left join {{ ref('stg_products') }} as products
    on lines.product_id = products.product_id
    and lines.landed_on >= products.landed_on
    and lines.landed_on < products.superseded_on
where {{ in_landed_range('lines.landed_on') }}
