"""What every route of the API shares: the error shape, credentials, request ids, CORS, log lines, the schema."""

from __future__ import annotations

import datetime as dt
import ipaddress
import json
import logging
from typing import Any

import pytest
from django.core.management import call_command
from django.db import OperationalError
from django.utils import timezone
from rest_framework.test import APIClient

from config.logs import JsonFormatter, mask
from courses.models import Course
from tests.conftest import Caller
from tests.factories import issue_to, make_key, make_pool
from vouchers.api import stock
from vouchers.models import ApiKey

pytestmark = pytest.mark.django_db

ROUTES = [
    ("post", "/issue-voucher"),
    ("post", "/api/admin/vouchers/issue"),
    ("post", "/api/admin/vouchers/upload"),
    ("get", "/admin/vouchers-summary"),
    ("get", "/admin/vouchers/JS101"),
]


class TestErrors:
    @pytest.mark.parametrize(
        ("method", "path", "status", "code"),
        [
            ("get", "/api/nothing", 404, "not_found"),
            ("get", "/api/courses/", 404, "not_found"),
            ("get", "/api/courses/NOPE", 404, "course_not_found"),
            ("put", "/redeem-voucher", 405, "method_not_allowed"),
            ("post", "/api/courses", 405, "method_not_allowed"),
            ("post", "/api/schema", 405, "method_not_allowed"),
            ("post", "/api/docs", 405, "method_not_allowed"),
            ("get", "/api/schema?format=foo", 404, "not_found"),
            ("get", "/api/courses/%00", 404, "course_not_found"),
        ],
    )
    def test_it_has_one_shape(self, client: Any, method: str, path: str, status: int, code: str) -> None:
        response = getattr(client, method)(path)
        assert response.status_code == status
        assert response["Content-Type"] == "application/json"
        body = response.json()
        assert set(body) == {"error", "code", "requestId"}
        assert body["code"] == code
        assert body["requestId"] == response["X-Request-ID"]

    @pytest.mark.parametrize(
        "body",
        [
            "{",
            "",
            "[" * 60_000,
            '{"a": NaN}',
            b"\xff\xfe",
            '{"code": 1' + "0" * 5000 + "}",
            "null",
            "[]",
            '"x"',
        ],
    )
    def test_it_survives_a_broken_body(self, client: Any, body: Any) -> None:
        response = client.post("/redeem-voucher", body, content_type="application/json")
        assert response.status_code == 400
        assert response.json()["code"] in {"malformed_body", "invalid_request", "invalid_code"}

    def test_it_names_a_format_it_does_not_read(self, client: Any) -> None:
        response = client.post("/redeem-voucher", {"code": "AAAA-1"})
        assert (response.status_code, response.json()["code"]) == (415, "unsupported_media_type")

    def test_it_refuses_a_body_that_is_too_large(self, client: Any) -> None:
        response = client.post("/redeem-voucher", json.dumps({"code": "a" * 70_000}), content_type="application/json")
        assert (response.status_code, response.json()["code"]) == (413, "too_large")

    def test_it_refuses_a_body_of_unknown_length(self, client: Any) -> None:
        request = {"REQUEST_METHOD": "POST", "PATH_INFO": "/redeem-voucher", "HTTP_TRANSFER_ENCODING": "chunked"}
        response = client.request(**request)
        assert (response.status_code, response.json()["code"]) == (411, "length_required")

    def test_it_answers_what_it_renders_in_json(self, client: Any) -> None:
        response = client.get("/api/schema", headers={"Accept": "image/png"})
        assert (response.status_code, response.json()["code"]) == (406, "not_acceptable")

    def test_it_lets_nobody_keep_codes_and_emails(self, caller: Caller, course: Course) -> None:
        client = caller("manage")
        assert client.get("/admin/vouchers/JS101")["Cache-Control"] == "no-store"
        assert client.get("/admin/vouchers-summary")["Cache-Control"] == "private, no-cache"

    def test_it_refuses_a_wrong_host(self, client: Any) -> None:
        response = client.get("/api/courses", headers={"Host": "evil.example"})
        assert (response.status_code, response.json()["code"]) == (400, "invalid_request")

    def test_it_hides_a_fault_of_ours(self, caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(stock, "answer", lambda: 1 / 0)
        client = caller("manage")
        client.raise_request_exception = False
        response = client.get("/admin/vouchers-summary")
        assert (response.status_code, response.json()["code"]) == (500, "server_error")
        assert "division" not in response.content.decode()

    def test_it_says_when_the_database_is_away(self, caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
        def away() -> None:
            raise OperationalError("connection refused")

        monkeypatch.setattr(stock, "answer", away)
        response = caller("manage").get("/admin/vouchers-summary")
        assert (response.status_code, response.json()["code"]) == (503, "unavailable")
        assert response["Retry-After"] == "2"

    def test_it_leaves_the_pages_for_people_alone(self, client: Any) -> None:
        assert client.get("/nothing").headers["Content-Type"].startswith("text/html")


class TestCredentials:
    @pytest.mark.parametrize(("method", "path"), ROUTES)
    def test_it_asks_for_some(self, client: Any, method: str, path: str) -> None:
        response = getattr(client, method)(path)
        assert (response.status_code, response["WWW-Authenticate"]) == (401, "Api-Key")
        assert response.json()["code"] == "not_authenticated"

    @pytest.mark.parametrize("key", ["", "x", "aaaaaaaa.bbbb", "\x00.\x00", f"{'a' * 8}.{'b' * 32}"])
    @pytest.mark.parametrize(("method", "path"), [*ROUTES, ("post", "/redeem-voucher"), ("get", "/api/courses")])
    def test_it_refuses_wrong_ones(self, client: Any, method: str, path: str, key: str) -> None:
        response = getattr(client, method)(path, headers={"Authorization": f"Api-Key {key}"})
        assert (response.status_code, response.json()["code"]) == (401, "authentication_failed")

    @pytest.mark.parametrize("change", [{"revoked": True}, {"expiry_date": timezone.now() - dt.timedelta(seconds=1)}])
    def test_it_refuses_a_key_at_once_when_it_ended(self, change: dict[str, Any], course: Course) -> None:
        client = APIClient()
        client.credentials(HTTP_AUTHORIZATION=f"Api-Key {make_key('manage')}")
        assert client.get("/admin/vouchers-summary").status_code == 200
        ApiKey.objects.update(**change)
        assert client.get("/admin/vouchers-summary").status_code == 401

    @pytest.mark.parametrize(("method", "path"), ROUTES)
    def test_it_refuses_a_key_without_the_scope(self, caller: Caller, course: Course, method: str, path: str) -> None:
        scope = "manage" if "issue" in path else "issue"
        response = getattr(caller(scope, "redeem"), method)(path, {}, format="json")
        assert (response.status_code, response.json()["code"]) == (403, "permission_denied")

    def test_it_keeps_no_key_in_clear(self, db: None) -> None:
        key = make_key("issue")
        stored = ApiKey.objects.values_list("id", "hashed_key", "prefix").get()
        assert all(key.partition(".")[2] not in str(value) for value in stored)


class TestRequestID:
    def test_it_comes_back(self, client: Any) -> None:
        assert client.get("/healthz", headers={"X-Request-ID": "shop-1.a_B"})["X-Request-ID"] == "shop-1.a_B"

    @pytest.mark.parametrize("odd", ["a b", "a" * 65, "<script>", ""])
    def test_it_is_made_anew_where_it_is_unfit(self, client: Any, odd: str) -> None:
        given = client.get("/healthz", headers={"X-Request-ID": odd})["X-Request-ID"]
        assert given != odd
        assert len(given) == 32


class TestProxies:
    @pytest.mark.parametrize(("network", "status"), [("127.0.0.0/8", 200), ("10.0.0.0/8", 301)])
    def test_it_believes_in_https_where_a_trusted_proxy_says_so(
        self, client: Any, settings: Any, network: str, status: int
    ) -> None:
        settings.SECURE_SSL_REDIRECT = True
        settings.TRUSTED_PROXIES = [ipaddress.ip_network(network)]
        assert client.get("/api/courses", headers={"X-Forwarded-Proto": "https"}).status_code == status


class TestCORS:
    def test_it_is_closed_by_default(self, client: Any) -> None:
        response = client.get("/api/courses", headers={"Origin": "https://shop.example"})
        assert "Access-Control-Allow-Origin" not in response

    def test_it_opens_to_named_front_ends(self, client: Any, settings: Any) -> None:
        settings.CORS_ALLOWED_ORIGINS = ["https://shop.example"]
        asked = {"Origin": "https://shop.example", "Access-Control-Request-Method": "POST"}
        preflight = client.options("/redeem-voucher", headers=asked)
        assert preflight["Access-Control-Allow-Origin"] == "https://shop.example"
        assert "idempotency-key" in preflight["Access-Control-Allow-Headers"]
        other = client.get("/api/courses", headers={"Origin": "https://evil.example"})
        assert "Access-Control-Allow-Origin" not in other


class TestLog:
    def test_it_has_one_line_a_request_without_codes_and_emails(
        self, caller: Caller, course: Course, caplog: pytest.LogCaptureFixture
    ) -> None:
        make_pool(course, 1, code="JS101-XZ4B7Q-001")
        client = caller("issue", "manage")
        caplog.clear()
        with caplog.at_level(logging.DEBUG):
            client.post("/issue-voucher", {"courseId": "JS101", "email": "ann@example.com"}, format="json")
            client.get("/admin/vouchers/JS101-XZ4B7Q-001?email=ann@example.com")
        lines = [r for r in caplog.records if r.name == "desk.request"]
        assert [(line.event["route"], line.event["status"]) for line in lines] == [  # type: ignore[attr-defined]
            ("/issue-voucher", 201),
            ("/admin/vouchers/<str:course_id>", 404),
        ]
        everything = "\n".join(
            JsonFormatter().format(record) for record in caplog.records if record.name[:6] != "django"
        )
        assert "ann@example.com" not in everything
        assert "JS101-XZ4B7Q-001" not in everything

    def test_it_masks_what_the_database_quotes(self) -> None:
        text = (
            'duplicate key value violates unique constraint "x"\n'
            "DETAIL:  Failing row contains (JS101-XZ4B7Q-001, a note\nof two lines about Ann).\n\nfor <ann@example.com>"
        )
        masked = mask(text)
        assert "JS101" not in masked
        assert "ann" not in masked.lower()
        assert "unique constraint" in masked


class TestHealth:
    def test_it_is_alive_without_a_database(self, client: Any, django_assert_num_queries: Any) -> None:
        with django_assert_num_queries(0):
            assert client.get("/healthz").json() == {"status": "ok"}

    def test_it_is_ready_and_says_that_the_worker_is_missing(self, client: Any) -> None:
        response = client.get("/readyz")
        assert response.status_code == 200
        assert response.json()["worker"] is False
        assert "No worker is running" in response.json()["warnings"][0]


class TestCourses:
    def test_it_lists_courses_to_anybody(self, client: Any, course: Course) -> None:
        Course.objects.update(price="49.00")
        document = {
            "_id": "JS101",
            "name": "JavaScript Basics",
            "price": "49.00",
            "currency": "usd",
            "onSale": True,
        }
        assert client.get("/api/courses").json() == [document]
        assert client.get("/api/courses/JS101").json() == document

    def test_it_shows_the_stock_to_those_who_manage_it(self, caller: Caller, course: Course) -> None:
        make_pool(course, 3)
        issue_to(course)
        for client in (caller("issue"), caller("redeem")):
            assert "totalVouchers" not in client.get("/api/courses/JS101").json()
        assert caller("manage").get("/api/courses/JS101").json()["totalVouchers"] == 3
        assert caller("manage").get("/api/courses").json()[0]["price"] is None


class TestSchema:
    def test_it_describes_every_route_and_its_codes(self, client: Any) -> None:
        schema = client.get("/api/schema", {"format": "json"}).json()
        assert set(schema["paths"]) == {
            "/issue-voucher",
            "/redeem-voucher",
            "/api/admin/vouchers/issue",
            "/api/admin/vouchers/upload",
            "/admin/vouchers-summary",
            "/admin/vouchers/{course_id}",
            "/api/courses",
            "/api/courses/{course_id}",
            "/api/checkout",
            "/api/purchases/{token}",
            "/healthz",
            "/readyz",
        }
        redeem = schema["paths"]["/redeem-voucher"]["post"]["responses"]
        assert set(redeem) == {
            "200", "400", "401", "403", "404", "405", "409", "410", "411", "413", "415", "429", "500", "503",
        }  # fmt: skip
        assert "voucher_on_hold" in json.dumps(schema)
        voucher = schema["components"]["schemas"]["VoucherDocument"]["properties"]
        assert set(voucher) == {
            "_id",
            "courseId",
            "used",
            "issuedTo",
            "usedOn",
            "status",
            "issuedOn",
            "expiresOn",
        }

    def test_it_is_valid(self, tmp_path: Any) -> None:
        call_command("spectacular", "--validate", "--fail-on-warn", "--file", str(tmp_path / "schema.yaml"))

    def test_it_has_pages_for_people(self, client: Any) -> None:
        page = client.get("/api/docs")
        assert page.status_code == 200
        assert "swagger-ui" in page.content.decode()
