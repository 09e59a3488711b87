// A client can send all of its body and still gets the page: no reset destroys the response, and a
// proxy that passes the body on in small steps gets the response after the whole body.
#include "catch.hpp"
#include "fixture.hpp"

using namespace fixture;

namespace {

// An upload of which `missing` bytes have not been sent.
std::string upload(const std::string& method, std::size_t size, std::size_t missing = 0) {
    return method +
           " /form HTTP/1.1\r\nHost: example\r\nContent-Length: " + std::to_string(size) +
           "\r\n\r\n" + std::string(size - missing, 'b');
}

// A chunked body of `count` times the same chunk, whose size is given in hexadecimal digits, too.
std::string chunked_upload(int count, std::size_t size, const std::string& digits) {
    std::string request = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (int i = 0; i < count; ++i)
        request += digits + "\r\n" + std::string(size, 'c') + "\r\n";
    return request + "0\r\n\r\n";
}

// Sends six bytes, one every 50 ms. Returns whether no event comes until 250 ms after the last one.
bool is_silent_in_steps(Client& client) {
    for (int step = 0; step < 6; ++step)
        if (client.readable(50ms) || !client.send("b")) return false;
    const auto start = Clock::now();
    return client.readable(2s) && seconds_since(start) >= 0.2;
}

}  // namespace

TEST_CASE("a client can send an upload of any size and form, and then gets the page") {
    const Maintd maintd;
    const std::vector<std::string> requests{upload("POST", 1),
                                            upload("POST", 100'000),
                                            upload("PUT", 1'000'000),
                                            upload("GET", 100'000),
                                            upload("POST", 10'000'000),
                                            chunked_upload(1, 5, "5"),
                                            chunked_upload(1000, 10, "a"),
                                            chunked_upload(50, 64'000, "fa00")};
    const auto replies = together(static_cast<int>(requests.size()), [&](int i) {
        Client client(maintd.port);
        return client.send(requests[static_cast<std::size_t>(i)]) ? client.receive_all()
                                                                  : Reply{};
    });
    for (const Reply& reply : replies) CHECK(is_whole(reply, built_in_page()));
}

TEST_CASE(
    "the response, and the FIN after it, come when the client has sent nothing for 250 "
    "ms") {
    const Maintd maintd;
    std::string response(visit(maintd.port).bytes.size(), '\0');
    CHECK(succeeds_once([&] {
        Client client(maintd.port);
        client.send(upload("POST", 1'000'000, 1'000'000));
        if (!is_silent_in_steps(client)) return false;
        recv(client.descriptor(), response.data(), response.size(), MSG_WAITALL);
        const bool is_silent = is_silent_in_steps(client);
        const Reply rest = client.receive_all();
        return is_silent && rest.bytes.empty() && rest.clean;
    }));
    CHECK(is_whole({response, true}, built_in_page()));
}

TEST_CASE("a body that comes after the response does not destroy it") {
    const Maintd maintd;
    std::vector<Client> clients;
    for (const char* field :
         {"Content-Length: 10000", "content-length:10000", "TRANSFER-ENCODING: chunked",
          "X: y\r\nContent-Length: 10000",
          "Content-Length: 10000\r\nExpect: 100-continue"})
        for (const std::string method : {"GET", "HEAD", "POST", "OPTIONS"})
            clients.emplace_back(maintd.port)
                .send(method + " / HTTP/1.1\r\nHost: x\r\n" + field + "\r\n\r\n");
    for (Client& client : clients) CHECK(client.readable(patience));
    for (Client& client : clients)
        for (int i = 0; i < 10; ++i) CHECK(client.send(std::string(1000, 'b')));
    // The clients read only now. A reset would have destroyed the response.
    CHECK(visit(maintd.port).clean);
    for (std::size_t i = 0; i < clients.size(); ++i)
        CHECK(is_whole(clients[i].receive_all(), built_in_page(), i % 4 == 1));
}

TEST_CASE("a large upload and a large page do not wait for each other") {
    const std::string page(8 << 20, 'p');
    const TemporaryFile file(page);
    const Maintd maintd({file.path});
    Client client(maintd.port);
    client.send(upload("POST", 10'000'000, 10'000'000));
    CHECK(client.readable(
        patience));  // The page has begun, and does not fit into the sockets.
    CHECK(client.send(std::string(10'000'000, 'b')));
    CHECK(is_whole(client.receive_all(), page));
}
