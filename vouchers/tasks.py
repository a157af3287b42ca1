"""What the worker does by the clock. Every task may run twice, or in two workers at once, and does not mind.

The cron lines have a sixth field: the second. A queueing lock keeps a task from piling up while no worker
is free; it does not keep a second worker from running the same task.

procrastinate's Django app closes dead connections before and after each task (`close_db_connections`), so
that a PostgreSQL that was restarted does not leave a thread of the worker with one.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from asgiref.sync import sync_to_async
from django.db import InterfaceError, OperationalError
from procrastinate import JobContext, RetryStrategy
from procrastinate.contrib.django import app
from procrastinate.exceptions import ConnectorException, UniqueViolation
from procrastinate.jobs import Status

from vouchers import filling, reminding, resending
from vouchers.delivery import alerts, sending
from vouchers.doctor import rounds
from vouchers.guesses import forget_old_guesses
from vouchers.importing import steps
from vouchers.models import Checkup
from vouchers.outgoing import sending as webhooks
from vouchers.payments.reconciling import reconcile
from vouchers.privacy.forgetting import forget_old_payloads
from vouchers.tallies import fold

logger = logging.getLogger(__name__)

KEEP_JOBS_HOURS = 24
KEEP_FAILED_JOBS_HOURS = 7 * 24
BATCH_ATTEMPTS = 60
PASSING: list[type[Exception]] = [steps.BatchBusy, OperationalError, InterfaceError]
# A worker has several threads and a slow mail server, or a receiver that hangs: without these, each thread would end
# up sending, and nobody would fill the queues.
one_sender_per_worker = threading.Lock()
one_webhook_sender_per_worker = threading.Lock()


def unless_busy(lock: threading.Lock, deed: Callable[[], object]) -> None:
    """Does it, unless another thread of this worker is at it."""
    if not lock.acquire(blocking=False):
        return
    try:
        deed()
    finally:
        lock.release()


@app.periodic(cron="* * * * * *")
@app.task(queueing_lock="send_due_emails")
def send_due_emails(timestamp: int) -> None:
    unless_busy(one_sender_per_worker, sending.send_due)


@app.periodic(cron="* * * * * *")
@app.task(queueing_lock="send_due_webhooks")
def send_due_webhooks(timestamp: int) -> None:
    unless_busy(one_webhook_sender_per_worker, webhooks.send_due)


@app.periodic(cron="* * * * * */10")
@app.task(queueing_lock="alert_staff")
def alert_staff(timestamp: int) -> None:
    alerts.alert_staff()


@app.periodic(cron="* * * * * */5")
@app.task(queueing_lock="send_codes_again")
def send_codes_again(timestamp: int) -> None:
    resending.carry_out_requests()


@app.periodic(cron="13 * * * *")
@app.task(queueing_lock="remind_buyers")
def remind_buyers(timestamp: int) -> None:
    reminding.remind_by_day()


@app.periodic(cron="17 2 * * *")
@app.task(queueing_lock="check_books_at_night")
def check_books_at_night(timestamp: int) -> None:
    rounds.check_up("clock")


@app.task(lock="check books")
def check_books(checkup_id: int) -> None:
    """What somebody asked for in the admin, of books too large to wait for."""
    rounds.carry_out(Checkup.objects.get(pk=checkup_id))


@app.periodic(cron="* * * * * */2")
@app.task(queueing_lock="fill_queues")
def fill_queues(timestamp: int) -> None:
    filling.sweep_waiting()


@app.periodic(cron="* * * * * *")
@app.task(queueing_lock="fold_tallies")
def fold_tallies(timestamp: int) -> None:
    fold()


@app.task(pass_context=True, retry=RetryStrategy(max_attempts=BATCH_ATTEMPTS, wait=5, retry_exceptions=PASSING))
def carry_on_batch(context: JobContext, batch_id: int) -> None:
    """Tried again while another process is at the batch, and after troubles of the database, for some minutes."""
    try:
        steps.carry_on(batch_id)
    except Exception as error:
        passing = isinstance(error, tuple(PASSING)) and context.job.attempts < BATCH_ATTEMPTS
        if not passing:
            steps.give_up(batch_id)
        raise


@app.periodic(cron="* * * * *")
@app.task(queueing_lock="recover_stalled_jobs")
async def recover_stalled_jobs(timestamp: int) -> None:
    """procrastinate leaves the jobs of a killed worker as they are; they are done again by others."""
    for job in await app.job_manager.get_stalled_jobs():
        try:
            await app.job_manager.retry_job(job)
        except UniqueViolation:
            # Its successor waits in the queue already, and a queueing lock admits only one.
            await app.job_manager.finish_job(job, Status.ABORTED, delete_job=True)
        except ConnectorException:
            # Another worker was faster, or the job has ended after all.
            logger.warning("A stalled job could not be recovered", extra={"event": {"job": job.id}})


@app.periodic(cron="*/10 * * * *")
@app.task(queueing_lock="reconcile_payments", lock="reconcile payments")
def reconcile_payments(timestamp: int) -> None:
    reconcile()


@app.periodic(cron="7 * * * *")
@app.task(queueing_lock="tidy_up")
async def tidy_up(timestamp: int) -> None:
    await sync_to_async(forget_old_guesses)()
    await sync_to_async(steps.forget_unconfirmed)()
    await sync_to_async(forget_old_payloads)()
    await app.job_manager.delete_old_jobs(nb_hours=KEEP_JOBS_HOURS, include_cancelled=True, include_aborted=True)
    await app.job_manager.delete_old_jobs(nb_hours=KEEP_FAILED_JOBS_HOURS, include_failed=True)
