"""POST /api/admin/vouchers/issue"""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.core.cache import cache
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from rest_framework.test import APIClient

from courses.models import Course
from tests.conftest import Caller
from tests.erasing import EMAIL, TOMBSTONE, erase, tables_with
from tests.factories import CourseFactory, UserFactory, issue_to, make_pool
from vouchers import bulk_issuing
from vouchers.api.issue_many import IssueVouchers
from vouchers.correcting import correct_address
from vouchers.filling import fill_waiting
from vouchers.guesses import Guesser
from vouchers.issuing import give_or_queue
from vouchers.masking import mask_code
from vouchers.models import Delivery, IdempotencyKey, Issuance, Voucher, WebhookMessage, WebhookReceiver
from vouchers.redeeming import RedeemRequest, redeem_voucher
from vouchers.revoking import revoke_voucher

pytestmark = pytest.mark.django_db
URL = "/api/admin/vouchers/issue"
ANN, BOB, CAT = "ann@example.com", "bob@example.com", "cat@example.com"


@pytest.fixture
def client(caller: Caller) -> APIClient:
    return caller("issue")


def issue(client: APIClient, *emails: Any, **fields: Any) -> Any:
    return client.post(URL, {"courseId": "JS101", "emails": emails, **fields}, format="json")


def codes(response: Any) -> list[str]:
    return [line["voucher"]["_id"] for line in response.json()["results"]]


def statuses(response: Any) -> list[str]:
    return [line["status"] for line in response.json()["results"]]


def counts(response: Any) -> dict[str, int]:
    """Those that are not 0; all of them add up to the lines."""
    body = response.json()
    found = {name: body[name] for name in ("issued", "found", "waiting", "closed", "invalid")}
    assert sum(found.values()) == len(body["results"])
    assert [line["line"] for line in body["results"]] == list(range(1, len(body["results"]) + 1))
    return {name: count for name, count in found.items() if count}


def redeem(code: str) -> None:
    redeem_voucher(RedeemRequest(code=code, guesser=Guesser.of_address("127.0.0.1")))


class TestIssuing:
    def test_it_issues_the_next_codes_in_the_order_of_the_list(self, client: APIClient, course: Course) -> None:
        first, second, _ = make_pool(course, 3)
        response = issue(client, "  Ann@Example.com ", BOB)
        first.refresh_from_db()
        assert first.issued_at is not None
        assert response.status_code == 200
        assert (response.json()["courseId"], counts(response)) == ("JS101", {"issued": 2})
        assert response.json()["results"][0] == {
            "line": 1,
            "email": "Ann@Example.com",
            "status": "issued",
            "created": True,
            "voucher": {
                "_id": first.code,
                "courseId": "JS101",
                "used": False,
                "issuedTo": "Ann@Example.com",
                "usedOn": None,
                "status": "issued",
                "issuedOn": first.issued_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
                "expiresOn": None,
            },
        }
        assert codes(response) == [first.code, second.code]
        assert list(Delivery.objects.order_by("pk").values_list("email", "status")) == [
            ("Ann@Example.com", "queued"),
            (BOB, "queued"),
        ]

    def test_what_the_pool_cannot_give_waits_in_the_order_of_the_list(self, client: APIClient, course: Course) -> None:
        make_pool(course, 1)
        response = issue(client, ANN, BOB, CAT)
        assert counts(response) == {"issued": 1, "waiting": 2}
        assert response.json()["results"][1:] == [
            {"line": 2, "email": BOB, "status": "waiting", "created": True, "position": 1},
            {"line": 3, "email": CAT, "status": "waiting", "created": True, "position": 2},
        ]
        assert list(Issuance.objects.waiting(course).values_list("email", flat=True)) == [BOB, CAT]

    def test_it_lets_nobody_overtake_the_queue(self, client: APIClient, course: Course) -> None:
        issue_to(course, "first@example.com")
        make_pool(course, 2)  # not by an import, which would have filled the queue
        response = issue(client, ANN, BOB)
        assert statuses(response) == ["issued", "waiting"]
        assert response.json()["results"][1]["position"] == 1
        assert Issuance.objects.get(email="first@example.com").status == "issued"
        assert Issuance.objects.get(email=ANN).told_at is not None

    def test_it_issues_more_at_once_than_one_statement_does(
        self, client: APIClient, course: Course, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(bulk_issuing, "HOLDERS_AT_ONCE", 2)
        vouchers = make_pool(course, 5)
        response = issue(client, *(f"{n}@example.com" for n in range(8)))
        assert statuses(response) == ["issued"] * 5 + ["waiting"] * 3
        assert [line["voucher"]["_id"] for line in response.json()["results"][:5]] == [v.code for v in vouchers]
        assert [line["position"] for line in response.json()["results"][5:]] == [1, 2, 3]

    def test_it_answers_with_what_filled_the_queue_meanwhile(
        self, client: APIClient, course: Course, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(bulk_issuing, "HOLDERS_AT_ONCE", 1)

        def give_and_refill(*args: Any, **named: Any) -> list[Issuance]:
            given = give_or_queue(*args, **named)
            make_pool(course, 1)
            return given

        monkeypatch.setattr(bulk_issuing, "give_or_queue", give_and_refill)
        response = issue(client, ANN, BOB)
        assert statuses(response) == ["issued", "waiting"]
        assert Issuance.objects.get(email=ANN).told_at is not None

    def test_it_tells_those_who_are_to_know(self, client: APIClient, course: Course) -> None:
        WebhookReceiver.objects.create(name="lms", url="https://lms.example/", events=["voucher.issued"])
        make_pool(course, 2)
        issue(client, ANN, BOB, CAT)
        told = WebhookMessage.objects.order_by("pk")
        assert [message.payload["data"]["email"] for message in told] == [ANN, BOB]

    def test_it_does_all_of_it_or_nothing(
        self, client: APIClient, course: Course, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        make_pool(course, 2)
        monkeypatch.setattr(bulk_issuing, "_places", lambda *args: 1 / 0)
        client.raise_request_exception = False
        assert issue(client, ANN, BOB, batchKey="k").status_code == 500
        assert not Issuance.objects.exists()
        assert not IdempotencyKey.objects.exists()
        assert Voucher.objects.filter(status="available").count() == 2

    @pytest.mark.parametrize(
        ("codes", "fields", "statements"),
        [
            # Who calls, the course, the transaction (2), its lock, what is owed; and what waits, and the codes.
            (30, {}, [8, 6]),
            # The keys instead of what is owed, stored in the end; or, found, all of them and what they led to.
            (30, {"batchKey": "k"}, [9, 8]),
            # The second look at the pool (4), the queue, what became of it, and the places in it (2).
            (0, {}, [16, 8]),
            (0, {"batchKey": "k"}, [17, 10]),
        ],
    )
    def test_a_longer_list_takes_no_more_statements(
        self, client: APIClient, codes: int, fields: dict[str, str], statements: list[int]
    ) -> None:
        cache.set("webhook-receivers", {}, 60)
        for number in (3, 30):
            course = CourseFactory.create()
            make_pool(course, codes)
            emails = [f"{n}@example.com" for n in range(number)]
            asked = []
            for _ in range(2):
                with CaptureQueriesContext(connection) as queries:
                    issue(
                        client, *emails, courseId=course.pk, **{name: f"{key}{number}" for name, key in fields.items()}
                    )
                asked.append(len(queries))
            assert asked == statements


class TestLines:
    def test_an_invalid_line_does_not_hinder_the_others(self, client: APIClient, course: Course) -> None:
        make_pool(course, 3)
        wrong = ["", "ann", "a@b.example, c@d.example", 7, None, ["x"], {"a": 1}, f"{'a' * 250}@example.com", "a\tb\0"]
        response = issue(client, *wrong, ANN)
        assert counts(response) == {"issued": 1, "invalid": len(wrong)}
        lines = response.json()["results"]
        assert lines[1] == {
            "line": 2,
            "email": "ann",
            "status": "invalid",
            "created": False,
            "error": "This is not one email address.",
        }
        assert lines[3]["error"] == "This is not a text."
        assert lines[7]["error"] == "An email address has up to 254 characters."
        assert lines[8]["email"] == "a\ufffdb\ufffd"
        assert Issuance.objects.get().email == ANN

    def test_it_survives_half_a_character(self, client: APIClient, course: Course) -> None:
        body = '{"courseId": "JS101", "emails": ["\\ud800@example.com"]}'
        response = client.post(URL, body, content_type="application/json")
        assert statuses(response) == ["invalid"]

    def test_a_list_without_an_email_does_nothing(self, client: APIClient, course: Course) -> None:
        make_pool(course, 1)
        assert counts(issue(client, "x", batchKey="k")) == {"invalid": 1}
        assert not IdempotencyKey.objects.exists()

    @pytest.mark.parametrize("fields", [{}, {"batchKey": "k"}])
    def test_the_same_email_twice_is_one_request(
        self, client: APIClient, course: Course, fields: dict[str, str]
    ) -> None:
        make_pool(course, 3)
        response = issue(client, ANN, BOB, f" {ANN.upper()} ", **fields)
        assert counts(response) == {"issued": 2, "found": 1}
        first, _, third = response.json()["results"]
        assert (third["created"], third["email"], third["voucher"]) == (False, ANN.upper(), first["voucher"])
        assert Issuance.objects.count() == 2


class TestByEmail:
    def test_it_finds_what_emails_wait_for_or_still_hold(self, client: APIClient, course: Course) -> None:
        make_pool(course, 1)
        held = issue_to(course, ANN)
        issue_to(course, BOB, order_id="A-1")
        response = issue(client, ANN.upper(), BOB, CAT)
        assert counts(response) == {"found": 1, "waiting": 2}
        assert held.voucher is not None
        assert response.json()["results"][0]["voucher"]["_id"] == held.voucher.code
        assert [line["created"] for line in response.json()["results"]] == [False, False, True]
        assert [line.get("position") for line in response.json()["results"]] == [None, 1, 2]

    def test_it_finds_the_newest(self, client: APIClient, course: Course) -> None:
        make_pool(course, 2)
        issue_to(course, ANN, order_id="1")
        newest = issue_to(course, ANN, order_id="2")
        assert newest.voucher is not None
        assert codes(issue(client, ANN)) == [newest.voucher.code]

    def test_it_finds_what_a_single_call_finds_in_another_alphabet(self, client: APIClient, course: Course) -> None:
        make_pool(course, 2)
        emails = ["ann@straße.example", "bob@şişli.example"]
        assert counts(issue(client, *emails)) == {"issued": 2}
        assert counts(issue(client, *emails)) == {"found": 2}

    def test_a_single_call_finds_what_a_list_did(self, client: APIClient, course: Course) -> None:
        make_pool(course, 2)
        (code,) = codes(issue(client, ANN))
        response = client.post("/issue-voucher", {"courseId": "JS101", "email": ANN}, format="json")
        assert (response.status_code, response.json()["voucher"]["_id"]) == (200, code)

    @pytest.mark.parametrize("end", ["redeemed", "revoked", "expired"])
    def test_it_issues_again_once_the_email_holds_no_valid_voucher(
        self, client: APIClient, course: Course, end: str
    ) -> None:
        make_pool(course, 2)
        voucher = issue_to(course, ANN).voucher
        assert voucher is not None
        if end == "redeemed":
            redeem(voucher.code)
        elif end == "revoked":
            revoke_voucher(voucher, reason="lost")
        else:
            Voucher.objects.filter(pk=voucher.pk).update(expires_on=timezone.localdate() - dt.timedelta(days=1))
        assert counts(issue(client, ANN)) == {"issued": 1}

    def test_another_course_is_another_request(self, client: APIClient, course: Course) -> None:
        make_pool(course, 1)
        make_pool(CourseFactory.create(id="PY201"), 1)
        issue(client, ANN)
        assert counts(issue(client, ANN, courseId="PY201")) == {"issued": 1}


class TestBatchKey:
    def test_the_same_list_again_finds_the_same_vouchers_whatever_became_of_them(
        self, client: APIClient, course: Course
    ) -> None:
        make_pool(course, 3)
        first = issue(client, ANN, "x", BOB, ANN, batchKey="k")
        redeem(codes_of_valid(first)[0])
        again = issue(client, ANN.upper(), "x", BOB, ANN, batchKey="k")
        assert counts(again) == {"found": 3, "invalid": 1}
        assert codes_of_valid(again) == codes_of_valid(first)
        assert again.json()["results"][0]["voucher"]["status"] == "redeemed"
        assert Issuance.objects.count() == 2

    def test_each_email_gets_a_voucher_more(self, client: APIClient, course: Course) -> None:
        make_pool(course, 3)
        issue_to(course, ANN)
        assert counts(issue(client, ANN, batchKey="k-1")) == {"issued": 1}
        assert counts(issue(client, ANN, batchKey="k-2")) == {"issued": 1}

    def test_it_is_the_key_of_this_caller_only(self, client: APIClient, caller: Caller, course: Course) -> None:
        make_pool(course, 2)
        issue(client, ANN, batchKey="k")
        assert counts(issue(caller("issue"), ANN, batchKey="k")) == {"issued": 1}

    def test_it_is_no_idempotency_key(self, client: APIClient, course: Course) -> None:
        make_pool(course, 3)
        issue(client, ANN, batchKey="k")
        for key in ("k", "1 k", "batch 1 k"):
            single = {"courseId": "JS101", "email": f"{key[0]}@example.com"}
            response = client.post("/issue-voucher", single, format="json", headers={"Idempotency-Key": key})
            assert response.status_code in (201, 202)
        assert counts(issue(client, ANN, batchKey="k")) == {"found": 1}

    @pytest.mark.parametrize(
        ("emails", "fields"),
        [
            ([ANN, BOB], {"courseId": "PY201"}),
            ([BOB, ANN], {}),
            ([ANN], {}),
            ([ANN, BOB, CAT], {}),
            ([ANN, CAT], {}),
            ([ANN, BOB, BOB], {}),
            (["x", ANN, BOB], {}),
            (["x", CAT], {}),
        ],
    )
    def test_it_is_refused_for_another_course_or_list(
        self, client: APIClient, course: Course, emails: list[str], fields: dict[str, str]
    ) -> None:
        make_pool(course, 4)
        make_pool(CourseFactory.create(id="PY201"), 4)
        issue(client, ANN, BOB, batchKey="k")
        response = issue(client, *emails, batchKey="k", **fields)
        assert (response.status_code, response.json()["code"]) == (422, "idempotency_key_reused")
        assert Issuance.objects.count() == 2

    def test_it_tells_the_places_now_and_then_the_vouchers(self, client: APIClient, course: Course) -> None:
        first = issue(client, ANN, BOB, batchKey="k")
        assert [line["position"] for line in first.json()["results"]] == [1, 2]
        make_pool(course, 1)
        fill_waiting(course)
        again = issue(client, ANN, BOB, batchKey="k")
        assert statuses(again) == ["issued", "waiting"]
        assert again.json()["results"][1]["position"] == 1
        assert Issuance.objects.get(email=ANN).told_at is not None

    def test_it_says_what_was_returned(self, client: APIClient, course: Course) -> None:
        make_pool(course, 2)
        issue(client, ANN, BOB, batchKey="k")
        revoke_voucher(Voucher.objects.get(issued_to=ANN), reason="refunded")
        Issuance.objects.filter(email=ANN).update(status="returned", returned_at=timezone.now())
        response = issue(client, ANN, BOB, batchKey="k")
        assert counts(response) == {"found": 1, "closed": 1}
        closed = response.json()["results"][0]
        assert (closed["status"], closed["created"], "voucher" in closed) == ("closed", False, False)
        assert closed["error"].startswith("What this line named was refunded or returned.")

    def test_a_retry_knows_the_first_address_only(self, client: APIClient, course: Course) -> None:
        make_pool(course, 2)
        issue(client, ANN, BOB, batchKey="k")
        correct_address(Issuance.objects.get(email=ANN), email=CAT, actor="tests")
        assert counts(issue(client, ANN, BOB, batchKey="k")) == {"found": 2}
        assert counts(issue(client, CAT, BOB, batchKey="k")) == {"found": 2}
        assert issue(client, BOB, CAT, batchKey="k").status_code == 422


def codes_of_valid(response: Any) -> list[str]:
    return [line["voucher"]["_id"] for line in response.json()["results"] if "voucher" in line]


class TestErasing:
    def test_nothing_kept_of_a_list_tells_of_an_erased_address(self, client: APIClient, course: Course) -> None:
        """Whoever guesses the address makes the same list again from what is kept, and sees no difference to another
        address: neither keys nor fingerprints are made of addresses."""
        make_pool(course, 2)
        issue(client, EMAIL, batchKey="k-1")
        issue(client, BOB, batchKey="k-2")
        (first, second) = IdempotencyKey.objects.order_by("pk")
        assert first.fingerprint == second.fingerprint
        assert {first.key, second.key} == {"1 k-1", "1 k-2"}
        erase()
        assert tables_with(EMAIL) == set()

    def test_the_same_list_names_another_buyer(self, client: APIClient, course: Course) -> None:
        make_pool(course, 3)
        issue(client, EMAIL, BOB, batchKey="k")
        erase()
        assert issue(client, EMAIL, BOB, batchKey="k").status_code == 422
        assert counts(issue(client, TOMBSTONE, BOB, batchKey="k")) == {"found": 2}
        assert Issuance.objects.count() == 2

    def test_a_key_that_holds_the_address_is_renamed(self, client: APIClient, course: Course) -> None:
        make_pool(course, 2)
        issue(client, EMAIL, BOB, batchKey=f"{EMAIL} " * 22)
        erase()
        assert tables_with(EMAIL) == set()
        assert IdempotencyKey.objects.count() == 2


class TestCallers:
    def test_programs_are_known_to_have_seen_the_codes(self, client: APIClient, course: Course) -> None:
        make_pool(course, 2)
        found = issue_to(course, ANN)
        assert found.told_at is None
        issue(client, ANN, BOB)
        told = {issuance.email: issuance.told_at for issuance in Issuance.objects.all()}
        assert all(told.values())
        issue(client, ANN, BOB)
        assert {issuance.email: issuance.told_at for issuance in Issuance.objects.all()} == told

    def staff(self, *permissions: str) -> APIClient:
        user = UserFactory.create(is_superuser=False)
        user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
        client = APIClient()
        client.force_login(user)
        return client

    def test_staff_who_may_not_see_codes_are_answered_with_masked_ones(self, course: Course) -> None:
        first, second = make_pool(course, 2)
        response = issue(self.staff("issue_voucher"), ANN, ANN, BOB)
        assert codes(response) == [mask_code(first.code)] * 2 + [mask_code(second.code)]
        assert set(Issuance.objects.values_list("told_at", flat=True)) == {None}

    def test_staff_who_may_see_them_are(self, course: Course) -> None:
        (first,) = make_pool(course, 1)
        assert codes(issue(self.staff("issue_voucher", "reveal_voucher"), ANN)) == [first.code]

    def test_others_of_staff_are_refused(self, course: Course) -> None:
        make_pool(course, 1)
        assert issue(self.staff("view_voucher"), ANN).status_code == 403
        assert not Issuance.objects.exists()


class TestRefusals:
    @pytest.mark.parametrize(
        ("change", "field"),
        [
            ({"courseId": None}, "courseId"),
            ({"courseId": "a" * 65}, "courseId"),
            ({"emails": None}, "emails"),
            ({"emails": ANN}, "emails"),
            ({"emails": {"1": ANN}}, "emails"),
            ({"emails": []}, "emails"),
            ({"emails": ["x"] * 10_001}, "emails"),
            ({"batchKey": ""}, "batchKey"),
            ({"batchKey": "a" * 201}, "batchKey"),
            ({"batchKey": "caf\u00e9"}, "batchKey"),
            ({"batchKey": "a\nb"}, "batchKey"),
            ({"batchKey": "a\n"}, "batchKey"),
            ({"batchKey": {"id": 1}}, "batchKey"),
        ],
    )
    def test_it_names_the_field_at_fault(
        self, client: APIClient, course: Course, change: dict[str, Any], field: str
    ) -> None:
        make_pool(course, 1)
        response = client.post(URL, {"courseId": "JS101", "emails": [ANN]} | change, format="json")
        assert response.status_code == 400
        assert list(response.json()["fields"]) == [field]
        assert not Issuance.objects.exists()

    @pytest.mark.parametrize("missing", ["courseId", "emails"])
    def test_it_names_what_is_missing(self, client: APIClient, course: Course, missing: str) -> None:
        body = {"courseId": "JS101", "emails": [ANN]}
        del body[missing]
        response = client.post(URL, body, format="json")
        assert (response.status_code, list(response.json()["fields"])) == (400, [missing])

    def test_it_says_that_there_is_no_such_course(self, client: APIClient, course: Course) -> None:
        response = issue(client, ANN, courseId="js101")
        assert (response.status_code, response.json()["code"]) == (404, "course_not_found")

    def test_it_takes_the_most_and_longest_emails(self, client: APIClient, course: Course) -> None:
        longest = "ü" * 242 + "@example.com"
        assert len(longest) == 254
        response = issue(client, *[longest] * 10_000)
        assert counts(response) == {"invalid": 10_000}

    def test_it_refuses_a_body_that_is_too_large(self, client: APIClient, course: Course) -> None:
        response = issue(client, "a" * IssueVouchers.max_bytes)
        assert (response.status_code, response.json()["code"]) == (413, "too_large")
