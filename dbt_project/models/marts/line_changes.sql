-- What each landing day changed: plus the version of a line that it brought, minus the version that this replaced.
-- A withdrawal is only the minus. Summed over any landing days up to D, the lines as known on D remain.
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
        lead(landed_on) over (partition by household_id, basket_id, product_id order by landed_on) as superseded_on
    from {{ ref('stg_transactions') }}
    where landed_on >= (select event_date from oldest) and landed_on <= {{ day('landed_to') }}
),

changes as (
    select *, landed_on as changed_on, 1 as sign from versions
    union all
    select *, superseded_on as changed_on, -1 as sign from versions where superseded_on is not null
)

select
    household_id,
    basket_id,
    product_id,
    changed_on as landed_on,
    sign,
    event_date,
    store_id,
    product_category,
    is_private_brand,
    sales_cents,
    retail_disc_cents + coupon_match_disc_cents as discount_cents,
    coupon_disc_cents
from changes
where is_merchandise
    and not is_withdrawn
    and {{ in_landed_range('changed_on') }}
