"""Every address of the desk. The API's come before the admin's, which would take `/admin/vouchers/…` for its own."""

from __future__ import annotations

from django.contrib import admin
from django.urls import URLPattern, URLResolver, include, path

from vouchers.api.checkout import PurchaseStatus, StartCheckout
from vouchers.api.courses import CourseDetail, Courses
from vouchers.api.health import Healthz, Readyz
from vouchers.api.issue import IssueVoucher
from vouchers.api.issue_many import IssueVouchers
from vouchers.api.redeem import RedeemVoucher
from vouchers.api.schema import Docs, Schema
from vouchers.api.stock import CourseVouchers, VouchersSummary
from vouchers.api.upload import UploadVouchers
from vouchers.payments.paypal.webhook import PayPalWebhook
from vouchers.payments.stripe.webhook import StripeWebhook
from vouchers.tracking.webhook import TrackingWebhook

# dj-stripe's admin looks for its webhook under this name.
stripe_patterns = [path("<uuid:uuid>/", StripeWebhook.as_view(), name="djstripe_webhook_by_uuid")]
urlpatterns: list[URLPattern | URLResolver] = [
    path("issue-voucher", IssueVoucher.as_view()),
    path("redeem-voucher", RedeemVoucher.as_view()),
    path("api/admin/vouchers/issue", IssueVouchers.as_view()),
    path("api/admin/vouchers/upload", UploadVouchers.as_view()),
    path("admin/vouchers-summary", VouchersSummary.as_view()),
    path("admin/vouchers/<str:course_id>", CourseVouchers.as_view(), name="course_vouchers"),
    path("api/courses", Courses.as_view()),
    path("api/courses/<str:course_id>", CourseDetail.as_view()),
    path("api/checkout", StartCheckout.as_view()),
    path("api/purchases/<str:token>", PurchaseStatus.as_view(), name="purchase_progress"),
    path("api/schema", Schema.as_view(), name="schema"),
    path("api/docs", Docs.as_view(url_name="schema"), name="docs"),
    path("healthz", Healthz.as_view()),
    path("readyz", Readyz.as_view()),
    path("admin/", admin.site.urls),
    path("webhooks/stripe/", include((stripe_patterns, "djstripe"))),
    path("webhooks/paypal/", PayPalWebhook.as_view()),
    path("webhooks/email/<str:provider>/tracking/", TrackingWebhook.as_view(), name="email_tracking"),
    path("", include("vouchers.shop.urls")),
]

handler400 = "config.errors.bad_request"
handler403 = "config.errors.permission_denied"
handler404 = "config.errors.page_not_found"
handler500 = "config.errors.server_error"
