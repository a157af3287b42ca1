"""Whole codes in the admin: by permission alone, and each look is in the log; all other pages mask them."""

from __future__ import annotations

from contextlib import suppress

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client

from courses.models import Course, Purchase
from tests.factories import issue_to, make_pool
from tests.staff import log_in, logged
from vouchers.correcting import correct_address
from vouchers.errors import DeskError
from vouchers.guesses import Guesser
from vouchers.models import Delivery, Issuance, KeptEmail, Redemption, Voucher
from vouchers.redeeming import RedeemRequest, redeem_voucher
from vouchers.replacing import replace_voucher

pytestmark = pytest.mark.django_db
CODE = "JS101-<XZ4>&-\"7Q'"
SHOWN = "JS101-&lt;XZ4&gt;&amp;-&quot;7Q&#x27;"
SAW_CODE = "Saw the whole code."
KEPT = "/admin/vouchers/keptemail/"


def page(voucher: Voucher, deed: str = "reveal") -> str:
    return f"/admin/vouchers/voucher/{voucher.pk}/{deed}/"


@pytest.fixture
def voucher(course: Course) -> Voucher:
    """Issued, with an email that stands in it."""
    [voucher] = make_pool(course, 1, code=CODE)
    issue_to(course)
    voucher.refresh_from_db()
    return voucher


@pytest.fixture
def kept(voucher: Voucher) -> KeptEmail:
    message_id = Delivery.objects.get().message_id
    return KeptEmail.objects.create(message_id=message_id, to="ann@example.com", subject="Yours", text=CODE)


class TestRevealing:
    def test_it_shows_the_whole_code_and_writes_down_who_saw_it(self, voucher: Voucher) -> None:
        client = log_in("view_voucher", "reveal_voucher")

        response = client.post(page(voucher))

        assert response.status_code == 200
        assert f'<code class="desk-whole" translate="no">{SHOWN}</code>' in response.content.decode()
        assert CODE not in response.content.decode()
        assert logged(voucher) == [SAW_CODE]
        entry = LogEntry.objects.get()
        assert str(entry.user_id) == client.session["_auth_user_id"]
        assert CODE not in f"{entry.object_repr} {entry.change_message}"

    def test_it_leaves_the_code_nowhere(self, admin_client: Client, voucher: Voucher) -> None:
        response = admin_client.post(page(voucher))

        assert "no-store" in response["Cache-Control"]
        assert response["Referrer-Policy"] == "no-referrer"
        assert CODE not in response.wsgi_request.get_full_path()
        # With that policy browsers send forms with `Origin: null`, which the check for forged ones refuses.
        assert "<form" not in response.content.decode()

    def test_it_writes_down_every_look(self, admin_client: Client, voucher: Voucher) -> None:
        for _ in range(3):
            admin_client.post(page(voucher))

        assert logged(voucher) == [SAW_CODE] * 3

    def test_it_shows_none_by_get(self, admin_client: Client, voucher: Voucher) -> None:
        response = admin_client.get(page(voucher))

        assert response.status_code == 405
        assert not LogEntry.objects.exists()

    def test_it_wants_a_form_of_ours(self, voucher: Voucher) -> None:
        client = Client(enforce_csrf_checks=True)
        client.cookies = log_in("view_voucher", "reveal_voucher").cookies

        assert client.post(page(voucher)).status_code == 403
        assert not LogEntry.objects.exists()

    @pytest.mark.parametrize(
        "permissions",
        [(), ("view_voucher",), ("view_voucher", "change_voucher", "view_keptemail"), ("reveal_voucher",)],
    )
    def test_it_shows_none_without_the_permission(self, voucher: Voucher, permissions: tuple[str, ...]) -> None:
        response = log_in(*permissions).post(page(voucher))

        assert response.status_code == 403
        assert SHOWN not in response.content.decode()
        assert not LogEntry.objects.exists()

    def test_it_shows_none_to_strangers(self, client: Client, voucher: Voucher) -> None:
        response = client.post(page(voucher))

        assert response.status_code == 302
        assert response["Location"].startswith("/admin/login/")
        assert not LogEntry.objects.exists()

    def test_it_offers_itself_to_those_who_may(self, voucher: Voucher) -> None:
        may_not, may = (log_in("view_voucher", *more) for more in ((), ("reveal_voucher",)))

        assert page(voucher) not in may_not.get(page(voucher, "change")).content.decode()
        offer = may.get(page(voucher, "change")).content.decode()
        assert f'<form method="post" action="{page(voucher)}">' in offer
        assert SHOWN not in offer

    @pytest.mark.parametrize(
        ("may_view", "back"), [("view_voucher", "voucher/{}/change/"), ("view_issuance", "support/voucher/{}/")]
    )
    def test_it_leads_back_to_where_this_person_may_be(self, voucher: Voucher, may_view: str, back: str) -> None:
        client = log_in(may_view, "reveal_voucher")

        shown = client.post(page(voucher)).context

        assert shown["back"].endswith(back.format(voucher.pk))
        assert client.get(shown["back"], follow=True).status_code == 200

    def test_it_knows_no_such_voucher(self, admin_client: Client, voucher: Voucher) -> None:
        assert admin_client.post("/admin/vouchers/voucher/0/reveal/").status_code == 404


class TestMasking:
    @pytest.fixture
    def rich(self, voucher: Voucher) -> Voucher:
        """A voucher in whose story everything has happened: corrected, replaced, tried, redeemed."""
        [later] = make_pool(voucher.course, 1, code=f"{CODE}-NEW")
        issuance = voucher.issuances.get()
        correct_address(issuance, email="bob@example.com", actor="user:1")
        replace_voucher(issuance, reason="Leaked", actor="user:1")
        for code in (CODE, later.code, later.code):
            with suppress(DeskError):
                redeem_voucher(RedeemRequest(code=code, guesser=Guesser.of_address("127.0.0.1")))
        return voucher

    @pytest.mark.parametrize("as_whom", ["superuser", "staff"])
    def test_it_shows_no_whole_code_anywhere(self, rich: Voucher, admin_client: Client, as_whom: str) -> None:
        views = [f"view_{name}" for name in ("voucher", "issuance", "delivery", "redemption", "purchase", "course")]
        client = admin_client if as_whom == "superuser" else log_in(*views, "revoke_voucher", "resend_voucher")

        for address in self.addresses():
            shown = client.get(address)
            assert shown.status_code == 200, address
            assert SHOWN not in shown.content.decode(), address
            assert CODE not in shown.content.decode(), address

    def addresses(self) -> list[str]:
        """All lists, and the pages of all rows, their histories and their deeds that ask first."""
        kinds: list[type[Voucher | Issuance | Delivery | Redemption | Purchase]]
        kinds = [Voucher, Issuance, Delivery, Redemption, Purchase]
        lists = [f"/admin/{kind._meta.app_label}/{kind._meta.model_name}/" for kind in kinds]
        rows = [f"{start}{row.pk}" for start, kind in zip(lists, kinds, strict=True) for row in kind.objects.all()]
        pages = [f"{row}/{sort}/" for row in rows for sort in ("change", "history")]
        return ["/admin/", *lists, *pages, page(Voucher.objects.latest("pk"), "revoke")]

    def test_it_tells_codes_apart_all_the_same(self, admin_client: Client, course: Course) -> None:
        make_pool(course, 1, code="JS101-XZ4B7Q-001")

        assert "••••-001" in admin_client.get("/admin/vouchers/voucher/").content.decode()

    @pytest.mark.parametrize("lookup", ["code__startswith", "code", "code__iexact"])
    def test_it_lets_no_address_ask_for_a_code(self, admin_client: Client, voucher: Voucher, lookup: str) -> None:
        assert admin_client.get("/admin/vouchers/voucher/", {lookup: "JS101"}).status_code == 400

    @pytest.mark.parametrize("column", ["text", "html"])
    def test_it_lets_no_address_ask_for_what_stands_in_an_email(
        self, admin_client: Client, kept: KeptEmail, column: str
    ) -> None:
        assert admin_client.get(KEPT, {f"{column}__contains": "JS101"}).status_code == 400


class TestKeptEmails:
    def test_it_writes_down_who_opened_one(self, kept: KeptEmail) -> None:
        client = log_in("view_keptemail", "reveal_voucher")

        response = client.get(f"{KEPT}{kept.pk}/change/")

        assert SHOWN in response.content.decode()
        assert "no-store" in response["Cache-Control"]
        assert logged(kept) == ["Opened the email, and the code in it."]
        assert CODE not in str(LogEntry.objects.values_list("object_repr", "change_message"))

    @pytest.mark.parametrize("permissions", [["view_keptemail"], ["reveal_voucher"]])
    @pytest.mark.parametrize("sort", ["change", "history"])
    def test_it_opens_none_without_both_permissions(self, kept: KeptEmail, permissions: list[str], sort: str) -> None:
        response = log_in(*permissions).get(f"{KEPT}{kept.pk}/{sort}/")

        assert response.status_code == 403
        assert not LogEntry.objects.exists()

    @pytest.mark.parametrize(("more", "opens"), [([], False), (["reveal_voucher"], True)])
    def test_it_lists_them_and_leads_to_those_that_may_be_opened(
        self, kept: KeptEmail, more: list[str], opens: bool
    ) -> None:
        client = log_in("view_keptemail", "view_delivery", *more)

        listed, sent = (client.get(address).content.decode() for address in (KEPT, page_of_email()))

        assert "ann@example.com" in listed
        assert SHOWN not in listed
        for shown in (listed, sent):
            assert (f"{KEPT}{kept.pk}/change/" in shown) is opens

    def test_it_writes_down_nothing_where_there_is_no_such_email(self, admin_client: Client) -> None:
        assert admin_client.get(f"{KEPT}0/change/").status_code == 302
        assert not LogEntry.objects.exists()


def page_of_email() -> str:
    return f"/admin/vouchers/delivery/{Delivery.objects.get().pk}/change/"
