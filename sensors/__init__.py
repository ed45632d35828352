"""What reacts: landing, drift, promotion, alerts. One idea holds for all of them.

A sensor keeps no memory of its own. What to do is read from what is there (landed files, materialised partitions, the
ledger, the Mondays' records, the clock), and a request carries a run key made of that very state. So a repeated tick, a
crash between tick and run, or hours of downtime lead to one effect, and never to none.
"""

from sensors.alerts import alerts
from sensors.external import EXTERNAL_SENSORS
from sensors.landing import landing
from sensors.promotion import promotion
from sensors.retraining import retraining
from sensors.weekly import weekly

SENSORS = [*EXTERNAL_SENSORS, landing, weekly, retraining, promotion, alerts]
