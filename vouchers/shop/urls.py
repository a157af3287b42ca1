"""The shop's addresses, for people."""

from __future__ import annotations

from django.urls import path

from vouchers.shop import again, paying, revealing, views

urlpatterns = [
    path("", views.courses, name="shop"),
    path("courses/<str:course_id>", views.course, name="course"),
    path("courses/<str:course_id>/checkout", paying.checkout, name="checkout"),
    path("test-payment/<str:checkout>", paying.try_payment, name="test_payment"),
    path("codes", again.again, name="again"),
    path("vouchers/<int:pk>/<str:token>", revealing.reveal, name="reveal"),
    path("purchases/<str:token>", views.purchase, name="purchase"),
]
