-- What each landing day changed about a household's shopping day. Sums over landing days are the day as known then.
{{ config(materialized='incremental', incremental_strategy='replace_range', unique_key='landed_on') }}

select
    household_id,
    event_date,
    landed_on,
    cast(sum(baskets_delta) as bigint) as baskets_delta,
    cast(sum(lines_delta) as bigint) as lines_delta,
    cast(sum(spend_cents_delta) as bigint) as spend_cents_delta,
    cast(sum(discount_cents_delta) as bigint) as discount_cents_delta,
    cast(sum(coupon_lines_delta) as bigint) as coupon_lines_delta,
    cast(sum(private_brand_lines_delta) as bigint) as private_brand_lines_delta
from {{ ref('basket_changes') }}
where {{ in_landed_range() }}
group by household_id, event_date, landed_on
