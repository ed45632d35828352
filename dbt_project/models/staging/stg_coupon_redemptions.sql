-- Every redemption as it landed.
select
    household_id,
    campaign_id,
    coupon_upc,
    event_ts,
    event_date,
    landed_on
from {{ source('raw', 'coupon_redemptions') }}
