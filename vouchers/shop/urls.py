"""The shop's addresses, for people."""

from __future__ import annotations

from django.urls import path

from vouchers.shop import paying, views

urlpatterns = [
    path("", views.courses, name="shop"),
    path("courses/<str:course_id>", views.course, name="course"),
    path("courses/<str:course_id>/checkout", paying.checkout, name="checkout"),
    path("test-payment/<str:checkout>", paying.try_payment, name="test_payment"),
    path("purchases/<str:token>", views.purchase, name="purchase"),
]
