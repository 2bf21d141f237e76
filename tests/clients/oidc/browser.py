"""A browser without a screen: goes to a page, fills in its forms, and follows where they lead.

    browser.py URL NAME=VALUE...

Fields that a form has are filled with the values given for their names; a form without any of them is sent as it is. Ends at
the first page without a form, prints its status and its text, and fails where that is an error.
"""
import http.cookiejar
import html.parser
import ssl
import sys
import urllib.error
import urllib.parse
import urllib.request


class Forms(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.forms, self.text = [], []

    def handle_starttag(self, tag, attributes):
        told = dict(attributes)
        if tag == "form":
            self.forms.append((told.get("action") or "", told.get("method", "get").lower(), {}))
        elif tag == "input" and self.forms and told.get("name"):
            # Buttons with a name do something else than to go on ("abort").
            self.forms[-1][2].setdefault(told["name"], told.get("value") or "")

    def handle_data(self, data):
        if data.strip():
            self.text.append(data.strip())


def main(url, values):
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    jar = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar(
        policy=http.cookiejar.DefaultCookiePolicy(strict_ns_domain=0)))
    opener = urllib.request.build_opener(jar, urllib.request.HTTPSHandler(context=context), urllib.request.ProxyHandler({}))
    body = None
    for _ in range(12):
        try:
            answer = opener.open(urllib.request.Request(url, body), timeout=20)
            status = answer.status
        except urllib.error.HTTPError as error:
            answer, status = error, error.code
        page = Forms()
        page.feed(answer.read().decode("utf-8", "replace"))
        forms = [form for form in page.forms if form[1] == "post"]
        if status >= 400 or not forms:
            print(status, answer.url.split("?")[0], " ".join(page.text)[:2000])
            return 0 if status < 400 else 1
        action, _, fields = forms[0]
        fields.update({name: value for name, value in values.items() if name in fields})
        url = urllib.parse.urljoin(answer.url, action)
        body = urllib.parse.urlencode(fields).encode()
    print("too many forms")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], dict(word.split("=", 1) for word in sys.argv[2:])))
