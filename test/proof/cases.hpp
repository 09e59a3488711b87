// Requests, good and bad, of which each is a whole one: what the fuzzer starts from, and what the
// long run sends. Whoever knows another way to ask adds it here, and all of them try it.
#pragma once

#include <string>
#include <vector>

namespace cases {

using namespace std::string_literals;

struct Request {
    const char* name;
    std::string bytes;
    bool is_head = false;  // answered without the page
};

inline const std::vector<Request>& requests() {
    static const std::vector<Request> all{
        {"a browser's", "GET / HTTP/1.1\r\nHost: example\r\nUser-Agent: test\r\n\r\n"},
        {"the page's own", "HEAD /a?b=c HTTP/1.1\r\nHost: example\r\n\r\n", true},
        {"of 1996", "GET / HTTP/1.0\r\n\r\n"},
        {"of 1991", "GET /\r\n"},
        {"with bare newlines", "GET / HTTP/1.1\nHost: example\n\n"},
        {"after empty lines", "\r\n\n\r\nHEAD / HTTP/1.1\r\n\r\n", true},
        {"a form", "POST /form HTTP/1.1\r\nHost: a\r\nContent-Length: 7\r\n\r\nname=me"},
        {"an upload that asks first",
         "PUT /file HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n"},
        {"a chunked body",
         "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nwiki\r\n0\r\n\r\n"},
        {"a GET with a body", "GET / HTTP/1.1\r\ncontent-length: 4\r\n\r\nbody"},
        {"a GET with a chunked body",
         "GET / HTTP/1.1\r\nTRANSFER-ENCODING: chunked\r\n\r\n0\r\n\r\n"},
        {"two in a row", "GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n"},
        {"of two lengths", "POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"},
        {"options of the server", "OPTIONS * HTTP/1.1\r\nHost: example\r\n\r\n"},
        {"a tunnel", "CONNECT example:443 HTTP/1.1\r\nHost: example:443\r\n\r\n"},
        {"a web socket",
         "GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"},
        {"HTTP/2 unasked", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"},
        {"through a proxy", "PROXY TCP4 192.0.2.1 192.0.2.2 5 80\r\nGET / HTTP/1.1\r\n\r\n"},
        {"another protocol", "BREW coffee HTCPCP/1.0\r\n\r\n"},
        {"a method alone", "HEAD\r\n\r\n"},
        {"a method that only begins like one", "HEADER / HTTP/1.1\r\n\r\n"},
        {"a method in small letters", "head / HTTP/1.1\r\n\r\n"},
        {"a blank first", " GET / HTTP/1.1\r\n\r\n"},
        {"zero bytes", "GET /\0\0 HTTP/1.1\r\nHost: \0\r\n\r\n"s},
        {"bytes beyond ASCII", "G\xC3\x8BT /\xFF\xFE HTTP/1.1\r\n\r\n"},
        {"a TLS hello", "\x16\x03\x01\x02\x00\x01\x00\x01\xFC\x03\x03"s},
        {"a carriage return within", "GET /\rHEAD / HTTP/1.1\r\n\r\n"},
    };
    return all;
}

}  // namespace cases
