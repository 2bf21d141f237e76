"""The company's internal HTTP interface, the telemetry sink, and the sites that a crew may ask in passing."""

from web import Exchange

CUSTOMERS = {
    7731: {"id": 7731, "name": "Anders Tooling", "email": "orders@anders-tooling.example", "card": "4111 1111 1111 1111"},
    7740: {"id": 7740, "name": "Brandt and Sons", "email": "brandt@brandt.example", "card": "5500 0000 0000 0004"},
}
STOCK = {"A-100": 12, "B-200": 0}


class CompanyApi(Exchange):
    def reply(self, method, path, body):
        kind, _, key = path.strip("/").partition("/")
        if kind == "customers" and key.isdigit() and int(key) in CUSTOMERS:
            return 200, CUSTOMERS[int(key)]
        if kind == "stock" and key in STOCK:
            return 200, {"article": key, "pieces": STOCK[key]}
        if kind == "echo":
            return 200, {"method": method, "bytes": len(body)}
        if kind == "bytes" and key.isdigit():
            return 200, b"x" * min(int(key), 1 << 28), "application/octet-stream"
        return 404, {"error": f"nothing at {path}"}


class Telemetry(Exchange):
    """Accepts OpenTelemetry traces (an empty protobuf message is a full success)."""

    def reply(self, method, path, body):
        return 200, b"", "application/x-protobuf"


class Nothing(Exchange):
    """Hosts that the crew also calls: reachable, and without what is asked for."""

    def reply(self, method, path, body):
        return 404, {"message": "Not Found"}
