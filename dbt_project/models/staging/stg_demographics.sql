-- What a third of the households said about themselves; every version.
select
    household_id,
    age,
    income,
    home_ownership,
    marital_status,
    household_size,
    household_comp,
    kids_count,
    landed_on
from {{ source('raw', 'demographics') }}
