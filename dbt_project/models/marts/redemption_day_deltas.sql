-- Redemptions by household, campaign and day, on the landing day that first told of them.
{{ config(materialized='incremental', incremental_strategy='replace_range', unique_key='landed_on') }}

with oldest as (
    select min(event_date) as event_date
    from {{ ref('stg_coupon_redemptions') }}
    where {{ in_landed_range() }}
),

first_told as (
    select household_id, campaign_id, coupon_upc, event_ts, event_date, min(landed_on) as landed_on
    from {{ ref('stg_coupon_redemptions') }}
    where landed_on >= (select event_date from oldest) and landed_on <= {{ day('landed_to') }}
    group by household_id, campaign_id, coupon_upc, event_ts, event_date
)

select
    household_id,
    campaign_id,
    event_date,
    landed_on,
    count(*) as redemptions_delta
from first_told
where {{ in_landed_range() }}
group by household_id, campaign_id, event_date, landed_on
