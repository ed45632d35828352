-- What each landing day changed about a household's shopping day in one product category.
{{ config(materialized='incremental', incremental_strategy='replace_range', unique_key='landed_on') }}

select
    household_id,
    product_category,
    event_date,
    landed_on,
    cast(sum(sign) as bigint) as lines_delta,
    cast(sum(sign * sales_cents) as bigint) as spend_cents_delta,
    cast(sum(sign * discount_cents) as bigint) as discount_cents_delta,
    cast(sum(case when coupon_disc_cents > 0 then sign else 0 end) as bigint) as coupon_lines_delta
from {{ ref('line_changes') }}
where {{ in_landed_range() }} and product_category is not null
group by household_id, product_category, event_date, landed_on
