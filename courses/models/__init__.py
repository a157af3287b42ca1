"""What is sold, and to whom it was sold."""

from courses.models.course import COURSE_ID, Course
from courses.models.payment_fact import PaymentFact
from courses.models.purchase import Purchase

__all__ = ["COURSE_ID", "Course", "PaymentFact", "Purchase"]
