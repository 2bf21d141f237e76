"""Starts the demo's scripted servers: names, OpenAI, telemetry, the company's API. Prints `ready` when all listen.

Usage: serve.py WORLD.json, which holds `names` (name -> addresses), `certificates` (name -> [certificate, key]), and
the paths of the logs.
"""

import json
import signal
import ssl
import sys

import names
import web
from accepted import Accepted, Log
from company_api import CompanyApi, Nothing, Telemetry
from openai_api import OpenAi


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        world = json.load(file)
    OpenAi.key_file = world["openai_key"]
    accepted = Accepted(world["accepted_log"])
    logs = accepted, Log(world["requests_log"])

    def tls(name):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*world["certificates"][name])
        context.set_alpn_protocols(["http/1.1"])
        return context

    def at(name):
        return world["names"][name]

    names.serve(names.Zone(world["names"], world["dns_log"]), world["resolvers"], accepted)
    web.listen("openai", at("api.openai.com"), 443, OpenAi, logs, tls("api.openai.com"))
    web.listen("telemetry", at("telemetry.crewai.com"), 4319, Telemetry, logs, tls("telemetry.crewai.com"))
    web.listen("api", at("api.internal"), 80, CompanyApi, logs)
    web.listen("api-tls", at("api.internal"), 443, CompanyApi, logs, tls("api.internal"))
    web.listen("elsewhere", at("app.crewai.com"), 443, Nothing, logs, tls("app.crewai.com"))
    print("ready", flush=True)
    signal.pause()


main()
