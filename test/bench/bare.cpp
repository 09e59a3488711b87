// The limit of what a server can do: a blocking loop of accept(), recv(), send() and close().
// usage: bare PORT PAGE, which like any server writes one response for each request.
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>

int main(int, char** argv) {
    std::signal(SIGPIPE, SIG_IGN);
    std::ifstream file(argv[2]);
    const std::string page(std::istreambuf_iterator<char>(file), {});
    const std::string response =
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/html\r\nConnection: close\r\n"
        "Content-Length: " +
        std::to_string(page.size()) + "\r\n\r\n" + page;
    const int listener = socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<in_port_t>(std::atoi(argv[1])));
    if (bind(listener, reinterpret_cast<sockaddr*>(&address), sizeof address) < 0) return 1;
    for (listen(listener, 4096);;) {
        char request[4096];
        const int client = accept(listener, nullptr, nullptr);
        ssize_t size = recv(client, request, sizeof request, 0);
        for (std::size_t sent = 0; sent < response.size() && size >= 0; sent += std::size_t(size))
            size = send(client, response.data() + sent, response.size() - sent, 0);
        close(client);
    }
}
