-- Which household receives which campaign, each version with the landing days at which it is the one known.
select
    household_id,
    campaign_id,
    campaign_type,
    start_date,
    end_date,
    landed_on,
    lead(landed_on, 1, {{ for_ever() }}) over (partition by household_id, campaign_id order by landed_on) as superseded_on
from {{ ref('stg_campaigns') }}
