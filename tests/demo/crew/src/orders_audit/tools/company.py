"""The crew's tools: the company's database, its HTTP interface and its hosts."""

import os

import httpx
import paramiko
import psycopg
import requests
import sqlalchemy
from crewai.tools import tool

DATABASE = os.environ.get("ORDERS_DATABASE", "postgresql://crew:orders-demo@pg.internal/orders")
API = os.environ.get("COMPANY_API", "http://api.internal")
WAREHOUSE_HOST = os.environ.get("WAREHOUSE_HOST", "ssh.internal")


@tool("query_orders")
def query_orders(sql: str) -> str:
    """Run one SQL statement on the order database and return its rows."""
    with psycopg.connect(DATABASE, connect_timeout=10) as connection:
        cursor = connection.execute(sql)
        return str(cursor.fetchall() if cursor.description else cursor.rowcount)


@tool("file_report")
def file_report(order_id: int, finding: str) -> str:
    """File a finding about an order, and return the report's number."""
    engine = sqlalchemy.create_engine(DATABASE.replace("postgresql://", "postgresql+psycopg://"))
    statement = sqlalchemy.text("INSERT INTO reports (order_id, finding) VALUES (:order_id, :finding) RETURNING id")
    with engine.begin() as connection:
        number = connection.execute(statement, {"order_id": order_id, "finding": finding}).scalar_one()
    engine.dispose()
    return f"report {number}"


@tool("customer_register")
def customer_register(customer_id: int) -> str:
    """Look a customer up in the register."""
    with httpx.Client(base_url=API, timeout=10) as client:
        return client.get(f"/customers/{customer_id}").raise_for_status().text


@tool("stock_level")
def stock_level(article: str) -> str:
    """Ask the warehouse how many pieces of an article are in stock."""
    response = requests.get(f"{API}/stock/{article}", timeout=10)
    response.raise_for_status()
    return response.text


@tool("run_on_warehouse_host")
def run_on_warehouse_host(command: str) -> str:
    """Run a command on the warehouse host over SSH and return what it prints."""
    with paramiko.SSHClient() as client:
        client.load_system_host_keys()
        client.connect(WAREHOUSE_HOST, username="deploy", timeout=10)
        _, output, errors = client.exec_command(command, timeout=10)
        return output.read().decode() + errors.read().decode()
