"""The steps of a batch in the admin: it is checked, and stored once somebody has confirmed it; it can be
cancelled until then, and undone while none of its codes is issued.

What waits between the steps lies in the database, so that any process can go on with it. A worker carries
on what a person has asked for; the web process tries small ones at once, so that nobody waits for them.
"""

from __future__ import annotations

import datetime as dt
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import BinaryIO, cast

from django.db import DEFAULT_DB_ALIAS, IntegrityError, connection, connections, transaction
from django.db.models import Q
from django.utils import timezone
from procrastinate.contrib.django import app

from vouchers.errors import BatchMovedOn, DeskError, NotUndoable, TooLateToCancel
from vouchers.generating import check_pattern, generate_codes
from vouchers.importing.kinds import is_zip
from vouchers.importing.reading import read_file
from vouchers.importing.storing import Upload, Watch, check_codes, import_codes, share_read, watched
from vouchers.locks import LockTimeout, limit_lock_wait, lock_timeout_as_error, try_lock_name
from vouchers.models import Batch, FilePart, Voucher

PART_BYTES = 256 * 1024
SMALL_BATCH = 10_000  # codes; a file is small where it is of one part
DELETED_AT_ONCE = 50_000
CHECKED = 0.65  # the share of reading in the time of a check, measured
SAID_EVERY = 0.5  # seconds
CANCEL_SECONDS = 2
TASK = "vouchers.tasks.carry_on_batch"
AFTER_THE_WEB_PROCESS = 10  # seconds
KEPT_UNCONFIRMED = dt.timedelta(days=7)

Status = Batch.Status


class BatchBusy(Exception):
    """Another process is at this batch."""


class BatchCancelled(Exception):
    """Somebody asked to cancel what runs."""


def begin_upload(upload: Upload, file: BinaryIO) -> Batch:
    """Takes in a file to be checked. `upload.sha256` is how the same file is recognised later."""
    with transaction.atomic():
        batch = upload.new_batch(status=Status.CHECKING)
        for number, content in enumerate(iter(lambda: file.read(PART_BYTES), b"")):
            FilePart.objects.create(batch=batch, number=number, content=content)
        _hand_over(batch)
    return batch


def begin_generation(upload: Upload, number: int, *, insist: bool) -> Batch:
    """Asks for `number` codes of the pattern of `upload`. Raises `InvalidRequest` for a pattern that cannot
    give them, or only guessable ones and nobody insists."""
    check_pattern(upload.course, upload.pattern, number, insist=insist)
    with transaction.atomic():
        batch = upload.new_batch(status=Status.STORING, wanted=number)
        _hand_over(batch)
    return batch


def confirm(batch: Batch) -> None:
    """Has a checked batch stored. Raises `BatchMovedOn`."""
    _move(batch, Status.CHECKED, Status.STORING)


def undo(batch: Batch) -> None:
    """Has all codes of a batch taken out of the pool again. Raises `NotUndoable` once one of them is issued,
    redeemed or revoked, and `BatchMovedOn`."""
    _refuse_unless_unused(batch)
    _move(batch, Status.STORED, Status.UNDOING)


def cancel(batch: Batch) -> None:
    """Gives up a batch that is not stored yet; where a process is at it, that one stops within a second.
    Raises `BatchMovedOn`, and `TooLateToCancel` while the storing of it comes to its end."""
    open_ones = Batch.objects.filter(pk=batch.pk, status__in=[Status.CHECKING, Status.CHECKED, Status.STORING])
    try:
        with lock_timeout_as_error(), transaction.atomic():
            limit_lock_wait(CANCEL_SECONDS)
            if not open_ones.update(cancel_asked=True):
                raise BatchMovedOn
            # In this order: a check that ended while we waited for the row has left its lock, too.
            if try_lock_name(_lock(batch.pk)):
                _end(batch, Status.CANCELLED)
    except LockTimeout:
        raise TooLateToCancel from None


def carry_on_if_small(batch: Batch) -> None:
    """Does at once what the worker would do in a moment, where that takes a moment only."""
    if not _is_small(batch):
        return
    try:
        carry_on(batch.pk)
    except BatchBusy:
        return  # a worker has it already


def carry_on(batch_id: int) -> None:
    """Does what the status of a batch asks for, all of it or nothing. May be called again at any time.

    Raises `BatchBusy` where another process is at it; what is wrong with a file is written into the batch.
    """
    with transaction.atomic():
        if not try_lock_name(_lock(batch_id)):
            raise BatchBusy
        batch = Batch.objects.select_related("course").get(pk=batch_id)
        step = STEPS.get(batch.status)
        if step is None:
            return
        try:
            with transaction.atomic(), _said(batch) as watch:
                step(batch, watch)
        except BatchCancelled:
            _end(batch, Status.CANCELLED)
        except NotUndoable as refusal:
            Batch.objects.filter(pk=batch.pk).update(status=Status.STORED, problem=refusal.message)
        except DeskError as refusal:
            _end(batch, Status.FAILED, problem=refusal.message)


def give_up(batch_id: int) -> None:
    """Ends a batch that a fault of ours keeps from being carried on; nothing of it was stored."""
    problem = "A fault of the desk stopped it, and its log says which. Nothing was changed."
    with transaction.atomic():
        if not try_lock_name(_lock(batch_id)):
            return  # another process is at it after all
        batch = Batch.objects.get(pk=batch_id)
        if batch.status == Status.UNDOING:
            Batch.objects.filter(pk=batch_id).update(status=Status.STORED, problem=problem)
        elif batch.status in Batch.RUNNING:
            _end(batch, Status.FAILED, problem=problem)


def forget_unconfirmed() -> None:
    """Cancels batches that nobody confirmed for a week."""
    old = Batch.objects.filter(status=Status.CHECKED, created_at__lt=timezone.now() - KEPT_UNCONFIRMED)
    for batch in old:
        with transaction.atomic():
            if Batch.objects.filter(pk=batch.pk, status=Status.CHECKED).update(status=Status.CANCELLED):
                _end(batch, Status.CANCELLED)


def batches_of_the_same_file(batch: Batch) -> list[Batch]:
    """Other uploads of the very same content into this course that were stored or may yet be."""
    if not batch.sha256:
        return []
    same = Batch.objects.filter(course=batch.course_id, sha256=batch.sha256).exclude(pk=batch.pk)
    return list(same.exclude(status__in=[Status.CANCELLED, Status.FAILED]))


def _check(batch: Batch, watch: Watch) -> None:
    with _file_of(batch) as file:
        check_codes(batch, watched(read_file(file, batch.file_name), share_read(file), watch, up_to=CHECKED))
    if not Batch.objects.filter(pk=batch.pk, cancel_asked=False).update(status=Status.CHECKED):
        raise BatchCancelled


def _store(batch: Batch, watch: Watch) -> None:
    if batch.source == Batch.Source.GENERATED:
        generate_codes(batch, watch=watch)
    else:
        with _file_of(batch) as file:
            lines = watched(read_file(file, batch.file_name), share_read(file), watch)
            import_codes(Upload.of(batch), lines, batch=batch, watch=watch)
    _end(batch, Status.STORED)


def _undo(batch: Batch, watch: Watch) -> None:
    try:
        with transaction.atomic():
            _delete_vouchers(batch, watch)
    except IntegrityError:
        _refuse_unless_unused(batch)  # one was issued while the others were being deleted
        raise
    _end(batch, Status.UNDONE)


def _delete_vouchers(batch: Batch, watch: Watch) -> None:
    deleted = 0
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('statement_timeout', '0', true), set_config('lock_timeout', '0', true)")
        while deleted < batch.inserted:
            watch(deleted / batch.inserted)
            cursor.execute(DELETE_SOME, {"batch": batch.pk, "number": DELETED_AT_ONCE})
            gone = [pk for (pk,) in cursor.fetchall()]
            if not gone:
                break
            # Somebody may have tried one of the codes although none was issued.
            cursor.execute(DELETE_ATTEMPTS, [gone])
            deleted += len(gone)
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")


STEPS: dict[str, Callable[[Batch, Watch], None]] = {
    Status.CHECKING: _check,
    Status.STORING: _store,
    Status.UNDOING: _undo,
}

DELETE_SOME = """
DELETE FROM vouchers_voucher WHERE id IN (
    SELECT id FROM vouchers_voucher WHERE batch_id = %(batch)s ORDER BY id LIMIT %(number)s
) RETURNING id
"""
DELETE_ATTEMPTS = "DELETE FROM vouchers_redeemattempt WHERE voucher_id = ANY(%s)"


def _move(batch: Batch, before: Batch.Status, after: Batch.Status) -> None:
    with transaction.atomic():
        if not Batch.objects.filter(pk=batch.pk, status=before).update(
            status=after, percent=0, problem="", cancel_asked=False
        ):
            raise BatchMovedOn
        batch.status = after
        _hand_over(batch)


def _hand_over(batch: Batch) -> None:
    """Has the worker carry on; with a small batch a little later, for the web process does that itself."""
    if _is_small(batch):
        job = app.configure_task(TASK, schedule_in={"seconds": AFTER_THE_WEB_PROCESS})
    else:
        # One large batch at a time: some of them at once would keep every thread of a worker from the emails.
        job = app.configure_task(TASK, lock="large batch")
    job.defer(batch_id=batch.pk)


def _is_small(batch: Batch) -> bool:
    if max(batch.wanted, batch.read) > SMALL_BATCH or batch.file_parts.filter(number=1).exists():
        return False
    first = batch.file_parts.filter(number=0).values_list("content", flat=True).first()
    return not is_zip(bytes(first or b""))  # a spreadsheet is packed, and may be large all the same


def _end(batch: Batch, status: Batch.Status, problem: str = "") -> None:
    Batch.objects.filter(pk=batch.pk).update(
        status=status, problem=problem, percent=100, first_lines=[], cancel_asked=False
    )
    batch.file_parts.all().delete()


def _refuse_unless_unused(batch: Batch) -> None:
    # One that was returned is in the pool again, and its issuance still refers to it.
    used = batch.vouchers.filter(~Q(status=Voucher.Status.AVAILABLE) | Q(issuances__isnull=False)).distinct().count()
    if used:
        raise NotUndoable(
            f"{used} of its codes {'has' if used == 1 else 'have'} been issued, redeemed or revoked, so the batch "
            "stays. Single vouchers can be revoked."
        )


@contextmanager
def _file_of(batch: Batch) -> Iterator[BinaryIO]:
    with tempfile.TemporaryFile() as file:
        for part in batch.file_parts.order_by("number").values_list("content", flat=True).iterator(chunk_size=4):
            file.write(part)
        file.seek(0)
        yield cast(BinaryIO, file)


@contextmanager
def _said(batch: Batch) -> Iterator[Watch]:
    """Writes how far a batch is, and reads whether to stop, on a connection of its own: what the transaction
    of the batch itself writes nobody sees before its end."""
    aside = connections.create_connection(DEFAULT_DB_ALIAS)
    due = time.monotonic() + SAID_EVERY

    def watch(share: float) -> None:
        nonlocal due
        if time.monotonic() < due:
            return
        due = time.monotonic() + SAID_EVERY
        with aside.cursor() as cursor:
            cursor.execute(SAY_AND_ASK, {"batch": batch.pk, "percent": int(100 * share)})
            if cursor.fetchone() == (True,):
                raise BatchCancelled

    try:
        yield watch
    finally:
        aside.close()


SAY_AND_ASK = "UPDATE vouchers_batch SET percent = %(percent)s WHERE id = %(batch)s RETURNING cancel_asked"


def _lock(batch_id: int) -> str:
    return f"batch {batch_id}"
