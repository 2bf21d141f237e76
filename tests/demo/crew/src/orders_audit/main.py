"""What `crewai run` starts."""

from orders_audit.crew import OrdersAudit


def run() -> None:
    result = OrdersAudit().crew().kickoff()
    print(f"RESULT: {result}")
