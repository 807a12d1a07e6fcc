"""The nightly job as an Airflow DAG: make lists, let the gates judge them, publish.

Put it into the DAGs folder of an Airflow whose workers see /srv/shop. A killed `recommend` goes on
where it stopped, so a retry costs minutes. A failed gate (exit code 3) would fail again, so it is
not tried again: readers keep the release they have until somebody has looked.
"""

from datetime import datetime, timedelta

from airflow import DAG
from airflow.providers.standard.operators.bash import BashOperator

SHOP = "/srv/shop"
RECSYS = f"{SHOP}/.venv/bin/recsys"

with DAG(
    dag_id="recommendations",
    schedule="10 3 * * *",
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,  # one night at a time
) as dag:
    recommend = BashOperator(
        task_id="recommend",
        bash_command=f"{RECSYS} recommend -c run.toml",
        cwd=SHOP,
        retries=3,
        retry_delay=timedelta(minutes=5),
    )
    judge = BashOperator(
        task_id="judge",
        bash_command=f"{RECSYS} publish -c run.toml --dry-run",
        cwd=SHOP,
        retries=0,  # what a gate says today it says again in five minutes
    )
    publish = BashOperator(
        task_id="publish",
        bash_command=f"{RECSYS} publish -c run.toml",
        cwd=SHOP,
        retries=2,  # a store that did not answer
        retry_delay=timedelta(minutes=1),
    )
    recommend >> judge >> publish
