"""manage.py erase_buyer, and the service behind it and behind its page in the admin"""

from __future__ import annotations

import datetime as dt
import io
import logging
import re
from decimal import Decimal
from typing import Any

import pytest
from django.apps import apps
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection, models, transaction
from django.utils import timezone

from courses.models import Course, PaymentFact, Purchase
from tests.erasing import EMAIL, NEIGHBOURS, TOMBSTONE, busy_life, dump, erase, mentions, tables_with
from tests.factories import PurchaseFactory, issue_to, make_pool
from tests.stripe_events import Payment, tell
from vouchers.correcting import correct_address
from vouchers.delivery.sending import send_due
from vouchers.errors import IdempotencyKeyReused
from vouchers.issuing import IssueRequest, issue_voucher
from vouchers.models import (
    Delivery,
    IdempotencyKey,
    Issuance,
    KeptEmail,
    Voucher,
)
from vouchers.privacy import erasing
from vouchers.privacy.addresses import Address
from vouchers.privacy.erasing import find_buyer
from vouchers.privacy.places import places
from vouchers.summary import summary
from vouchers.tombstones import tombstone_of

pytestmark = pytest.mark.django_db


def run(*arguments: str) -> tuple[str, str]:
    out, err = io.StringIO(), io.StringIO()
    call_command("erase_buyer", *arguments, stdout=out, stderr=err, no_color=True)
    return out.getvalue(), err.getvalue()


def text_for(column: models.Field[Any, Any]) -> object:
    """The address as such a column might hold it."""
    if isinstance(column, models.JSONField):
        return {"who": [EMAIL, {"said": f"line\n{EMAIL.upper()}"}], EMAIL: 1}
    if column.name in ("email", "issued_to", "to", "old_email", "new_email") or (column.max_length or 99) < 40:
        return EMAIL
    return f"<{EMAIL.upper()}>, said {EMAIL}."


def some_row(model: type[models.Model], number: int) -> models.Model:
    """A row of a table of dj-stripe, made up."""
    made_up = {
        models.BooleanField: False,
        models.DateTimeField: timezone.now(),
        models.DecimalField: Decimal(1),
        models.GenericIPAddressField: "10.0.0.1",
        models.IntegerField: 1,
        models.JSONField: {},
    }
    row = model()
    for field in model._meta.concrete_fields:
        kind = next((kind for kind in made_up if isinstance(field, kind)), None)
        if field.is_relation:
            setattr(row, field.attname, None if field.null else number)
        elif kind and not field.primary_key:
            setattr(row, field.attname, made_up[kind])
        elif field.unique and isinstance(field, models.CharField):
            setattr(row, field.attname, str(number))
    return row


class TestEverywhere:
    @pytest.fixture(autouse=True)
    def _kept(self, settings: Any) -> None:
        settings.EMAIL_BACKEND = "vouchers.delivery.kept.KeptEmailBackend"

    def test_it_leaves_the_address_in_no_column_of_any_table(self, priced: Course) -> None:
        paid = busy_life(priced, EMAIL)
        held = {Voucher: paid.voucher_id, Issuance: paid.pk}
        with transaction.atomic():
            for number, place in enumerate(places()):
                if place.model._meta.app_label == "djstripe" and not place.rows.exists():
                    place.rows.bulk_create([some_row(place.model, number)])
                # Of the vouchers one that is held: its holder and that of its issuance are the same.
                row = place.rows.filter(pk=held[place.model]).first() if place.model in held else place.rows.first()
                assert row, f"{place.name}: no row to plant the address in"
                place.rows.filter(pk=row.pk).update(**{column.name: text_for(column) for column in place.columns})
            planted = {place.model._meta.db_table for place in places()}
            assert tables_with(EMAIL) >= planted

            erase()

            assert tables_with(EMAIL) == set()
            with connection.cursor() as cursor:
                cursor.execute("SET CONSTRAINTS voucher_is_accounted_for, issuance_names_the_holder IMMEDIATE")
            transaction.set_rollback(True)  # rows of dj-stripe that refer to nothing

    def test_it_finds_the_columns_by_itself(self) -> None:
        """A new column of text is looked through, unless it is named here and in `places.py`."""
        looked_through = {(place.model, column.name) for place in places() for column in place.columns}
        kinds = (models.CharField, models.TextField, models.JSONField, models.BinaryField)
        left_out = {
            f"{model.__name__}.{field.name}"
            for app in ("courses", "vouchers")
            for model in apps.get_app_config(app).get_models()
            for field in model._meta.concrete_fields
            if isinstance(field, kinds) and not field.choices and (model, field.name) not in looked_through
        }
        shops_own = {name for name in left_out if name.split(".")[0] in ("ApiKey", "Course", "WebhookReceiver")}
        assert left_out - shops_own == {
            "Batch.actor",
            "Checkup.actor",
            "AddressChange.actor",
            "Replacement.actor",
            "IdempotencyKey.caller",
            "Issuance.caller",
            "Redemption.caller",
            "RedeemAttempt.caller",
            "Guess.caller",
            "Delivery.message_id",
            "WebhookMessage.message_id",
            "Purchase.token",
            "Purchase.currency",
            "Purchase.agreed_currency",
            "Voucher.code",
            "FilePart.content",
        }

    def test_it_changes_nothing_else(self, priced: Course) -> None:
        for email in [EMAIL.upper(), *NEIGHBOURS]:
            busy_life(priced, email)
        before, counts = dump(), summary()
        mentioned = {neighbour: mentions(neighbour) for neighbour in NEIGHBOURS}

        erased = erase()

        after = dump()
        assert summary() == counts
        assert {neighbour: mentions(neighbour) for neighbour in NEIGHBOURS} == mentioned
        assert min(mentioned.values()) > 20
        gone = before["vouchers_resendrequest"].keys() - after["vouchers_resendrequest"].keys()
        assert len(gone) == 1
        changed = 0
        for table, rows in before.items():
            assert len(after[table]) == len(rows) - (len(gone) if table == "vouchers_resendrequest" else 0)
            for key, row in after[table].items():
                if row != rows[key]:
                    changed += 1
                    assert changes_of(rows[key], row) == {}, table
        assert changed + len(gone) == erased.total == sum(erased.counts.values())

    def test_it_says_what_it_would_replace_and_replaces_that(self, priced: Course) -> None:
        busy_life(priced, EMAIL)
        before = dump()
        found = find_buyer(email=EMAIL)
        assert dump() == before
        assert found.total > 20
        assert erase() == found

    def test_a_kept_email_to_the_buyer_loses_its_code_too(self, course: Course) -> None:
        make_pool(course, 1, code="JS101-XZ4B7Q-001")
        issue_to(course, EMAIL)
        send_due()
        before = KeptEmail.objects.get()
        assert "JS101-XZ4B7Q-001" in before.text
        erase()
        kept = KeptEmail.objects.get()
        assert (kept.to, kept.subject, kept.text, kept.html) == (TOMBSTONE, before.subject, erasing.KEPT_BODY, "")

    def test_it_finds_an_address_that_was_corrected_long_ago(self, course: Course) -> None:
        make_pool(course, 1)
        correct_address(issue_to(course, EMAIL), email="new@example.com", actor="tests")
        assert erase().counts == {"address changes": 1, "deliveries": 1}
        assert tables_with(EMAIL) == set()
        assert Issuance.objects.get().email == Voucher.objects.get().issued_to == "new@example.com"

    def test_it_has_nothing_to_do_the_second_time(self, priced: Course) -> None:
        busy_life(priced, EMAIL)
        erase()
        before = dump()
        again = erase()
        assert (again.total, again.counts) == (0, {})
        assert dump() == before


def changes_of(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """Columns that became something else than the same with the tombstone in the address's place."""
    return {
        name: (value, after[name])
        for name, value in before.items()
        if value != after[name]
        and after[name] != Address(EMAIL).replaced_in(value)
        and name != "fingerprint"
        and not ("kept_at" in before and name in ("text", "html"))
    }


class TestTexts:
    @pytest.mark.parametrize(
        "text",
        [
            "{}",
            "<{}>",
            "{}.",
            "'{}'",
            "b'{}: user unknown'",
            "To: {}, somebody",
            "https://shop.example/?email={}&a=1",
            "mailto:{}",
            "line\\n{}\\nline",
            "\\u003c{}\\u003e",
        ],
    )
    def test_it_replaces_a_whole_address(self, text: str) -> None:
        for email in (EMAIL, EMAIL.upper(), "Ann@X.co"):
            assert Address(EMAIL).replaced_in(text.format(email)) == text.format(TOMBSTONE)

    @pytest.mark.parametrize("neighbour", NEIGHBOURS)
    @pytest.mark.parametrize("text", ["{}", "<{}>", "{}.", "To: {}, somebody"])
    def test_it_leaves_a_part_of_another_one(self, text: str, neighbour: str) -> None:
        assert Address(EMAIL).replaced_in(text.format(neighbour)) == text.format(neighbour)

    def test_it_knows_how_others_write_it(self) -> None:
        odd = "o'brien+a&b@x.co"
        for spelling in ("o&#x27;brien+a&amp;b@x.co", "o%27brien%2Ba%26b%40x.co"):
            assert Address(odd).replaced_in(f'"{spelling}"') == f'"{tombstone_of(odd)}"'
        umlaut = "ann@müller.example"
        assert (
            Address(umlaut).replaced_in(r'{"to": "ann@m\u00fcller.example"}') == f'{{"to": "{tombstone_of(umlaut)}"}}'
        )

    def test_it_looks_into_names_and_lists(self) -> None:
        found = Address(EMAIL).replaced_in({EMAIL: [1, None, {"a": [f"x {EMAIL}"]}]})
        assert found == {TOMBSTONE: [1, None, {"a": [f"x {TOMBSTONE}"]}]}

    def test_it_keeps_a_full_text_within_its_column(self, course: Course) -> None:
        voucher = make_pool(course, 1)[0]
        Voucher.objects.filter(pk=voucher.pk).update(revoked_reason=f"{EMAIL} " * 33)
        erase()
        voucher.refresh_from_db()
        assert len(voucher.revoked_reason) == 300
        assert EMAIL not in voucher.revoked_reason


class TestWhatIsOwed:
    def test_it_says_what_the_buyer_still_waits_for_and_holds(self, course: Course) -> None:
        make_pool(course, 2)
        issue_to(course, EMAIL, order_id="1")
        issue_to(course, EMAIL.upper(), order_id="2")
        issue_to(course, EMAIL, order_id="3")
        issue_to(course, NEIGHBOURS[0], order_id="4")
        found = find_buyer(email=EMAIL)
        assert found.owed == erase().owed == erase().owed == erasing.Owed(waiting=1, held=2)
        assert found.owed.in_words.startswith("Still owed: this buyer waits for 1 voucher and holds 2 valid vouchers.")

    def test_it_leaves_what_is_redeemed_or_expired(self, course: Course) -> None:
        make_pool(course, 1, expires_on=timezone.localdate())
        issue_to(course, EMAIL)
        assert erase().owed
        Voucher.objects.update(expires_on=timezone.localdate() - dt.timedelta(days=1))
        assert not erase().owed

    def test_its_place_in_the_queue_stays_and_no_email_is_sent(self, course: Course) -> None:
        issue_to(course, EMAIL)
        erase()
        make_pool(course, 1)
        assert issue_to(course, "next@example.com").status == Issuance.Status.WAITING
        assert Issuance.objects.get(email=TOMBSTONE).voucher == Voucher.objects.get(issued_to=TOMBSTONE)
        send_due()
        (withdrawn,) = Delivery.objects.all()
        assert (withdrawn.status, withdrawn.last_error) == ("failed", "Not sent: the address was erased.")
        assert not Delivery.objects.undelivered().exists()


class TestAfterwards:
    def test_the_same_request_names_another_buyer(self, course: Course) -> None:
        make_pool(course, 2)
        asked = IssueRequest(course_id=course.pk, email=EMAIL, caller="tests", order_id="7", idempotency_key="k")
        issue_voucher(asked)
        erase()
        with pytest.raises(IdempotencyKeyReused):
            issue_voucher(asked)
        by_tombstone = IssueRequest(course_id=course.pk, email=TOMBSTONE, caller="tests", order_id="7")
        assert IdempotencyKey.objects.get().fingerprint == by_tombstone.fingerprint
        assert Issuance.objects.count() == 1

    def test_a_key_used_with_a_reference_of_a_payment_is_renamed_too(self, priced: Course) -> None:
        make_pool(priced, 2)
        payment = Payment(course=priced.pk, email=EMAIL)
        tell(payment.completed())
        for number, order in enumerate((payment.intent_id, payment.session_id)):
            asked = IssueRequest(
                course_id=priced.pk, email=EMAIL, caller="tests", order_id=order, idempotency_key=str(number)
            )
            issue_voucher(asked)
        before = {*IdempotencyKey.objects.values_list("fingerprint", flat=True)}
        erase()
        assert not before & {*IdempotencyKey.objects.values_list("fingerprint", flat=True)}

    def test_a_provider_that_tells_again_does_not_bring_it_back(self, priced: Course) -> None:
        make_pool(priced, 2)
        payment = Payment(course=priced.pk, email=EMAIL)
        tell(payment.completed())
        erase()
        tell(event := payment.completed(), event, payment.paid_later())
        tell({**payment.completed(), "type": "payment_intent.succeeded", "data": {"object": payment.intent()}})
        tell(payment.refunded(4900))
        facts = PaymentFact.objects.exclude(claims={})
        assert {fact.claims["email"] for fact in facts} == {TOMBSTONE}
        assert facts.count() == 2
        # As they came, until they are forgotten.
        assert tables_with(EMAIL) == {"djstripe_event", "djstripe_webhookeventtrigger"}
        purchase = Purchase.objects.get()
        assert (purchase.email, purchase.review, purchase.refunded_amount) == (TOMBSTONE, "", Decimal(49))
        assert Issuance.objects.get().email == TOMBSTONE

    def test_a_checkout_that_is_paid_after_it_does_not_either(self, priced: Course) -> None:
        make_pool(priced, 1)
        payment = Payment(course=priced.pk, email=EMAIL)
        PurchaseFactory.create(
            course=priced, email=EMAIL, reference=payment.session_id, checkout=payment.session_id, began_here=True
        )
        erase()
        tell(payment.completed())
        assert PaymentFact.objects.get().claims["email"] == Purchase.objects.get().email == TOMBSTONE

    def test_another_payment_of_the_same_buyer_is_a_new_one(self, priced: Course) -> None:
        make_pool(priced, 2)
        tell(Payment(course=priced.pk, email=EMAIL).completed())
        erase()
        tell(Payment(course=priced.pk, email=EMAIL).completed())
        assert {*Purchase.objects.values_list("email", flat=True)} == {TOMBSTONE, EMAIL}


class TestCommand:
    def test_it_says_in_numbers_what_happened(self, course: Course) -> None:
        issue_to(course, EMAIL)
        out, err = run(" Ann@X.CO ")
        assert out.splitlines()[-1] == f"Replaced it in 1 row by {TOMBSTONE}."
        assert out.splitlines()[0].split() == ["1", "issuances"]
        assert "waits for 1 voucher" in err
        assert run(EMAIL)[0] == "Nothing here holds this address. Nothing to do.\n"

    def test_it_changes_nothing_in_a_dry_run(self, priced: Course) -> None:
        busy_life(priced, EMAIL)
        before = dump()
        out, _ = run(EMAIL, "--dry-run")
        assert re.search(
            r"^Would replace it in \d+ rows by .*@erased.invalid. Nothing was changed.$", out, re.MULTILINE
        )
        assert dump() == before

    @pytest.mark.parametrize(
        "given", ["", "ann", "ann@x.co, bob@x.co", "Ann <ann@x.co>", f"{'a' * 250}@x.co", TOMBSTONE]
    )
    def test_it_refuses_what_is_not_one_address(self, course: Course, given: str) -> None:
        issue_to(course, EMAIL)
        with pytest.raises(CommandError):
            run(given)
        assert Issuance.objects.get().email == EMAIL

    def test_it_logs_who_did_it_and_never_the_address(self, course: Course, caplog: pytest.LogCaptureFixture) -> None:
        issue_to(course, EMAIL)
        with caplog.at_level(logging.DEBUG):
            run(EMAIL.upper())
        (record,) = [record for record in caplog.records if record.message == "A buyer was erased"]
        assert vars(record)["event"] == {"tombstone": TOMBSTONE, "rows": 1, "actor": "command"}
        assert (
            EMAIL not in str([vars(record) for record in caplog.records if record.name != "django.db.backends"]).lower()
        )
