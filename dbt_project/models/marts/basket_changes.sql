-- What each landing day changed about a basket. A basket comes to be with its first line and goes with its last.
{{ config(materialized='incremental', incremental_strategy='replace_range', unique_key='landed_on') }}

with oldest as (
    select min(event_date) as event_date
    from {{ ref('line_changes') }}
    where {{ in_landed_range() }}
),

changes as (
    select
        household_id,
        basket_id,
        landed_on,
        event_date,
        store_id,
        sum(sign) as lines_delta,
        sum(sign * sales_cents) as spend_cents_delta,
        sum(sign * discount_cents) as discount_cents_delta,
        sum(case when coupon_disc_cents > 0 then sign else 0 end) as coupon_lines_delta,
        sum(case when is_private_brand then sign else 0 end) as private_brand_lines_delta
    from {{ ref('line_changes') }}
    where landed_on >= (select event_date from oldest) and landed_on <= {{ day('landed_to') }}
    group by household_id, basket_id, landed_on, event_date, store_id
),

known as (
    select
        *,
        sum(lines_delta) over (
            partition by household_id, basket_id, event_date, store_id
            order by landed_on rows between unbounded preceding and current row
        ) as lines_after
    from changes
)

select
    household_id,
    basket_id,
    landed_on,
    event_date,
    store_id,
    {{ appearance('lines_after', 'lines_delta') }} as baskets_delta,
    cast(lines_delta as bigint) as lines_delta,
    cast(spend_cents_delta as bigint) as spend_cents_delta,
    cast(discount_cents_delta as bigint) as discount_cents_delta,
    cast(coupon_lines_delta as bigint) as coupon_lines_delta,
    cast(private_brand_lines_delta as bigint) as private_brand_lines_delta
from known
where {{ in_landed_range() }}
