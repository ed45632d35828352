-- Which household receives which campaign; every version.
select
    household_id,
    campaign_id,
    replace(campaign_type, 'Type ', '') as campaign_type,
    start_date,
    end_date,
    landed_on
from {{ source('raw', 'campaigns') }}
