-- Which products a coupon of a campaign is good for; every version.
select
    campaign_id,
    coupon_upc,
    product_id,
    landed_on
from {{ source('raw', 'coupons') }}
