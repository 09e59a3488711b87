// Whole roll-outs, as README tells them: a site (nginx) serves, maintd waits, the site stops,
// maintd serves and stops, the site serves again. Visitors come all the while, straight to the site
// or through a proxy that is configured by the very lines that README shows.
//
// Everything runs in a directory under /tmp and on free ports; the services of the machine are left
// alone. Who is root: nginx and squid give that up, so the directory is open to everybody.

#include <netinet/tcp.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cctype>
#include <cstdio>
#include <mutex>
#include <regex>

#include "../catch.hpp"
#include "../fixture.hpp"

using namespace fixture;

namespace {

// ---- What the roll-outs need: programs, ports, a directory, README -----------------------------

// Returns the path of a program, or fails with the line that says what to install.
std::string program(const std::string& name) {
    const char* path = std::getenv("PATH");
    std::istringstream places((path != nullptr ? path : "") + ":/usr/local/sbin:/usr/sbin"s);
    for (std::string place; std::getline(places, place, ':');)
        if (access((place + "/" + name).c_str(), X_OK) == 0) return place + "/" + name;
    FAIL(name << " is missing: apt-get install nginx squid haproxy curl");
    return {};
}

// Returns a port that nobody uses. It lies below those from which the kernel takes the clients'
// own: in the gap, when nobody listens, one of them would get the port, and even talk to itself.
std::uint16_t free_port() {
    static int candidate = 10000 + static_cast<int>(getpid()) % 10000;
    for (;;) {
        const int descriptor = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
        sockaddr_in6 address{};
        address.sin6_family = AF_INET6;
        address.sin6_port = htons(static_cast<std::uint16_t>(++candidate));
        const bool bound =
            bind(descriptor, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
        close(descriptor);
        if (bound) return static_cast<std::uint16_t>(candidate);
        if (candidate > 30000) throw std::runtime_error("no free port");
    }
}

// A directory for configurations, logs and caches, gone with the object.
class Directory {
  public:
    Directory() {
        if (mkdtemp(path.data()) == nullptr) throw system_error("mkdtemp");
        chmod(path.c_str(), 0777);
    }
    Directory(const Directory&) = delete;
    ~Directory() { std::filesystem::remove_all(path); }

    std::string write(const std::string& name, const std::string& content) const {
        std::ofstream(path + "/" + name) << content;
        return path + "/" + name;
    }

    std::string path = "/tmp/maintd-rollout-XXXXXX";
};

// Where the site is, maintd where it has a port of its own, and the proxy.
struct Ports {
    std::uint16_t site = free_port();
    std::uint16_t maintd = free_port();
    std::uint16_t proxy = free_port();
};

// Returns the first indented block that follows `line` in README, with our ports in place of 8081
// for the site and 8080 for maintd: what is tested is what an operator copies.
std::string readme_block(const std::string& line, const Ports& ports) {
    const char* path = std::getenv("README");
    std::istringstream lines(file_content(path != nullptr ? path : "README"));
    std::string block;
    bool found = false;
    for (std::string text; std::getline(lines, text);) {
        found = found || text.find(line) != std::string::npos;
        if (found && text.starts_with("    "))
            block += text.substr(4) + "\n";
        else if (!block.empty())
            break;
    }
    if (block.empty()) FAIL("README has no lines after '" << line << "'");
    block = std::regex_replace(block, std::regex("\\b8081\\b"), std::to_string(ports.site));
    return std::regex_replace(block, std::regex("\\b8080\\b"), std::to_string(ports.maintd));
}

// A server with all its children: they form a process group, which is killed with the object.
class Daemon : public Process {
  public:
    Daemon(std::vector<std::string> arguments, std::uint16_t port)
        : Process(std::move(arguments), [] { setpgid(0, 0); }) {
        const auto listens = [&] {
            if (!runs()) throw std::runtime_error("it did not start: " + wait().errors);
            try {
                Client{port};
                return true;
            } catch (const std::runtime_error&) {
                return false;
            }
        };
        if (!eventually(listens, 30s)) throw std::runtime_error("it does not listen");
    }
    ~Daemon() {
        if (pid > 0) kill(-pid, SIGKILL);
    }
};

// ---- The site
// ------------------------------------------------------------------------------------

const std::string site_body = "the site\n";

// What every configuration of nginx needs to leave the machine's own alone.
std::string nginx_configuration(const std::string& directory, const std::string& http) {
    std::string own;
    for (const std::string kind : {"client_body", "proxy", "fastcgi", "uwsgi", "scgi"})
        own += kind + "_temp_path " + directory + "/" + kind + ";\n";
    return "pid " + directory + "/pid;\nerror_log " + directory +
           "/errors;\nworker_processes 2;\nevents { worker_connections 1000; }\nhttp {\n" +
           "access_log off;\nclient_max_body_size 0;\n" + own + http + "}\n";
}

// The site: nginx, with an answer to everything that no cache keeps, so that every visitor of a
// proxy reaches who serves at that time. Its listener has a receive buffer so small that the
// windows of its connections are not scaled: that tells them from maintd's, whatever becomes of
// them (see let_in_by_site()).
class Site {
  public:
    explicit Site(std::uint16_t port) : port_(port) { start(); }

    void start() {
        server_.emplace(std::vector{nginx_, "-c"s, file_, "-g"s, "daemon off;"s}, port_);
    }

    // "quit" lets the visitors finish, "stop" does not. Returns when nginx is gone.
    void stop(const std::string& how) {
        const Exit asked = run({nginx_, "-c", file_, "-s", how});
        INFO(asked.errors);
        REQUIRE(asked.status == 0);
        server_->wait();
        server_.reset();
    }

  private:
    std::uint16_t port_;
    std::string nginx_ = program("nginx");
    Directory directory_;
    std::string file_ = directory_.write(
        "site.conf",
        nginx_configuration(directory_.path,
                            "server { listen " + std::to_string(port_) + " rcvbuf=16k" +
                                "; location / { add_header Cache-Control no-store; return 200 '" +
                                site_body + "'; } }\n"));
    std::optional<Daemon> server_;
};

// A maintd that waits for its port.
class WaitingMaintd : public Process {
  public:
    explicit WaitingMaintd(std::uint16_t port)
        : Process({maintd_path(), "-w", "-p", std::to_string(port)}) {
        // It says nothing while it waits; but it is another program than we, and it sleeps.
        const std::string own = file_content("/proc/self/comm");
        const auto waits = [&] {
            return file_content("/proc/" + std::to_string(pid) + "/comm") != own &&
                   status_field("State").starts_with("S");
        };
        if (!eventually(waits)) throw std::runtime_error("maintd does not wait");
    }
};

// ---- Visitors
// ------------------------------------------------------------------------------------

enum class Outcome { refused, cut_off, site, page, other };

struct Visit {
    Clock::time_point asked{};  // just before connect()
    Clock::time_point ended{};
    bool by_site = false;  // let in, by the site rather than by maintd
    Outcome outcome{};
    std::string detail{};  // the status line, or the error
};

struct Request {
    std::string bytes;
    bool head_only = false;
};

Request request(const std::string& method, const std::string& path = "/", std::size_t size = 0) {
    const std::string length =
        size > 0 ? "Content-Length: " + std::to_string(size) + "\r\n" : std::string();
    return {method + " " + path + " HTTP/1.1\r\nHost: example\r\nConnection: close\r\n" + length +
                "\r\n" + std::string(size, 'x'),
            method == "HEAD"};
}

// Which answer it is. Proxies may write a field's name in small letters, and add fields.
Outcome judge(const Reply& reply, bool head_only) {
    std::string header = reply.header();
    std::transform(header.begin(), header.end(), header.begin(),
                   [](unsigned char letter) { return static_cast<char>(std::tolower(letter)); });
    const auto is = [&](const std::string& status, const std::string& body) {
        return header.starts_with("http/1.1 " + status + " ") &&
               header.find("\r\ncontent-length: " + std::to_string(body.size()) + "\r\n") !=
                   std::string::npos &&
               reply.body() == (head_only ? "" : body);
    };
    static const std::string page = built_in_page();
    if (reply.end != End::clean || !header.ends_with("\r\n\r\n")) return Outcome::cut_off;
    if (is("200", site_body)) return Outcome::site;
    if (is("503", page) && header.find("\r\nretry-after: 120\r\n") != std::string::npos)
        return Outcome::page;
    // Incomplete?
    const std::size_t length = header.find("\r\ncontent-length: ");
    const bool whole = head_only || length == std::string::npos ||
                       std::stoul(header.substr(length + 18)) <= reply.body().size();
    return whole ? Outcome::other : Outcome::cut_off;
}

// Whether the listener that has let this connection in is that of the site.
bool let_in_by_site(const Client& client) {
    tcp_info info{};
    socklen_t size = sizeof info;
    if (getsockopt(client.descriptor(), IPPROTO_TCP, TCP_INFO, &info, &size) < 0)
        throw system_error("TCP_INFO");
    return info.tcpi_snd_wscale == 0;
}

Visit come(std::uint16_t port, const Request& request) {
    Visit visit{.asked = Clock::now()};
    try {
        Client client(port);
        visit.by_site = let_in_by_site(client);
        const Reply reply = client.ask(request.bytes);
        visit.outcome = judge(reply, request.head_only);
        visit.detail = reply.bytes.substr(0, reply.bytes.find("\r\n"));
    } catch (const std::runtime_error& error) {
        const bool refused = errno == ECONNREFUSED || errno == ECONNRESET;
        visit.outcome = refused ? Outcome::refused : Outcome::other;
        visit.detail = error.what();
    }
    visit.ended = Clock::now();
    return visit;
}

// A constant load: each visitor, a thread, makes his request again and again. It is kept low: each
// connection lingers for a minute (TIME_WAIT), and with 12,000 of them on a port the kernel takes 7
// ms for bind() to it, whoever calls that.
class Load {
  public:
    Load(std::uint16_t port, const std::vector<Request>& requests) {
        for (const Request& request : requests)
            threads_.emplace_back([this, port, request] {
                while (!over_) {
                    add(come(port, request));
                    std::this_thread::sleep_for(1ms);  // the pace of the load: no more than 1,000/s
                }
            });
    }
    ~Load() { end(); }

    // Waits until `count` more visits have had this outcome.
    void await(Outcome outcome, std::size_t more = 500) {
        const std::size_t target = count(outcome) + more;
        INFO("waiting for outcome " << static_cast<int>(outcome));
        REQUIRE(eventually([&] { return count(outcome) >= target; }, 30s));
    }

    // Returns all visits in order.
    std::vector<Visit> end() {
        over_ = true;
        for (std::thread& thread : threads_) thread.join();
        threads_.clear();
        std::sort(visits_.begin(), visits_.end(),
                  [](const Visit& a, const Visit& b) { return a.asked < b.asked; });
        return visits_;
    }

  private:
    std::atomic<std::size_t>& count(Outcome outcome) {
        return counts_[static_cast<std::size_t>(outcome)];
    }

    void add(Visit made) {
        const std::lock_guard guard(mutex_);
        ++count(made.outcome);
        visits_.push_back(std::move(made));
    }

    std::atomic<bool> over_ = false;
    std::mutex mutex_;
    std::vector<Visit> visits_;
    std::array<std::atomic<std::size_t>, 5> counts_{};
    std::vector<std::thread> threads_;
};

double median(std::vector<double> values) {
    std::sort(values.begin(), values.end());
    return values.at(values.size() / 2);
}

double worst(const std::vector<double>& values) {
    return *std::max_element(values.begin(), values.end());
}

// ---- Straight to the site
// ------------------------------------------------------------------------

// The course of one roll-out: what was done when, and what the visits say about it.
struct Rollout {
    std::string how;  // the site was stopped
    Clock::time_point begin{};
    Clock::time_point signalled{};  // maintd, to stop
    Clock::time_point ended{};      // maintd
    Clock::time_point end{};        // the site has been serving again for a while

    std::size_t refused = 0;
    std::size_t sites = 0;
    std::size_t pages = 0;
    std::size_t cut_by_site = 0;
    std::size_t cut_while_serving = 0;
    std::size_t cut_by_stopping = 0;
    std::size_t wrongly_marked = 0;
    double taking_over =
        0;  // ms, from the last visit that was let in by the site to the first page
    double giving_back =
        0;  // ms, from the last visit that was let in by maintd to the site's answer

    // Counts the visits, which are in the order of asking. Both gaps are from before connect() to
    // the end of the answer, and thus never shorter than the time in which nobody listened.
    void count(const std::vector<Visit>& visits) {
        Clock::time_point last_of_site{};
        Clock::time_point last_of_maintd{};
        for (const Visit& each : visits) {
            if (each.asked < begin || each.asked >= end) continue;
            refused += each.outcome == Outcome::refused;
            sites += each.outcome == Outcome::site;
            pages += each.outcome == Outcome::page;
            const bool by_site = each.by_site || each.asked >= ended;
            const bool cut = each.outcome == Outcome::cut_off;
            cut_by_site += cut && by_site;
            cut_while_serving += cut && !by_site && each.ended < signalled;
            cut_by_stopping += cut && !by_site && each.ended >= signalled;

            // Who has let a visitor in is known from the connection, else nobody could be blamed;
            // but nginx sets the buffer's size just after listen(), so at first its mark is
            // missing.
            wrongly_marked += each.outcome == Outcome::page && each.by_site;
            wrongly_marked += each.outcome == Outcome::site && !each.by_site && each.ended < ended;

            const auto since = [&](Clock::time_point last) {
                return std::chrono::duration<double, std::milli>(each.ended - last).count();
            };
            if (each.outcome == Outcome::refused) continue;
            if (!by_site) last_of_maintd = each.asked;
            if (by_site && pages == 0) last_of_site = each.asked;
            if (each.outcome == Outcome::page && taking_over == 0)
                taking_over = since(last_of_site);
            if (each.outcome == Outcome::site && pages > 0 && giving_back == 0)
                giving_back = since(last_of_maintd);
        }
    }
};

constexpr std::size_t half = 5;  // bytes of a request line

// Lets so many visitors connect that maintd, which sleeps meanwhile, cannot take them in one round:
// in the queue, and in the middle of a request line, is the worst place to be when it is stopped.
std::vector<Client> queue_up(const Process& maintd, std::uint16_t port) {
    maintd.send_signal(SIGSTOP);
    if (!eventually([&] { return maintd.status_field("State").starts_with("T"); }))
        throw std::runtime_error("maintd does not sleep");
    std::vector<Client> crowd;
    for (int i = 0; i < 200; ++i) {
        crowd.emplace_back(port);
        crowd.back().send(get.substr(0, half));
    }
    return crowd;
}

}  // namespace

TEST_CASE("In ten roll-outs under load maintd takes over in milliseconds, and cuts nobody off") {
    constexpr int times = 10;
    const Ports ports;
    Site site(ports.site);
    Load load(ports.site, {request("GET"), request("GET", "/a"), request("HEAD"),
                           request("POST", "/upload", 300'000)});
    load.await(Outcome::site);
    std::vector<Rollout> rollouts;
    for (int i = 0; i < times; ++i) {
        Rollout rollout{.how = i % 2 == 0 ? "quit" : "stop", .begin = Clock::now()};
        WaitingMaintd maintd(ports.site);
        site.stop(rollout.how);
        REQUIRE(maintd.error_line().starts_with("maintd: serving the built-in page"));
        load.await(Outcome::page);
        std::vector<Client> crowd = queue_up(maintd, ports.site);
        rollout.signalled = Clock::now();
        maintd.send_signal(SIGTERM);
        maintd.send_signal(SIGCONT);
        for (Client& visitor : crowd) {
            visitor.send(get.substr(half));
            CHECK(is_whole(visitor.receive_all(), built_in_page()));
        }
        crowd.clear();  // maintd gives whoever has not closed two seconds
        const Exit exit = maintd.wait();
        rollout.ended = Clock::now();
        CHECK(exit.status == 0);
        CHECK(exit.errors.find("requests answered") != std::string::npos);
        site.start();
        load.await(Outcome::site);
        rollout.end = Clock::now();
        rollouts.push_back(rollout);
    }
    const std::vector<Visit> all = load.end();
    for (const Visit& each : all) {
        INFO(each.detail);
        REQUIRE(each.outcome != Outcome::other);
    }

    std::vector<double> taking_over;
    std::vector<double> giving_back;
    std::size_t cut_while_serving = 0;
    int stops_that_cut = 0;
    std::printf("stop   site  pages refused  cut off by: site  maintd  its stop   gaps in ms\n");
    for (Rollout& rollout : rollouts) {
        rollout.count(all);
        REQUIRE(rollout.wrongly_marked == 0);
        std::printf("%s %6zu %6zu  %6zu            %6zu  %6zu    %6zu %6.1f %6.1f\n",
                    rollout.how.c_str(), rollout.sites, rollout.pages, rollout.refused,
                    rollout.cut_by_site, rollout.cut_while_serving, rollout.cut_by_stopping,
                    rollout.taking_over, rollout.giving_back);
        taking_over.push_back(rollout.taking_over);
        giving_back.push_back(rollout.giving_back);
        cut_while_serving += rollout.cut_while_serving;
        stops_that_cut += rollout.cut_by_stopping > 0;
    }
    std::printf(
        "from the site to maintd: %.1f ms (median), %.1f ms at most; and back, with 200 visitors "
        "to finish: %.1f, %.1f\n",
        median(taking_over), worst(taking_over), median(giving_back), worst(giving_back));
    CHECK(cut_while_serving == 0);
    // Whom the kernel lets in between the last accept() and close() no program can save.
    CHECK(stops_that_cut <= times / 10);
    CHECK(median(taking_over) < 25);
}

// ---- Through a proxy
// -----------------------------------------------------------------------------

namespace {

// Where maintd stands in: on a port of its own, to which the proxy goes over, or on the site's.
enum class Place { own_port, port_of_site };

// A proxy in front of the site: what README says about it, and what it needs besides to run here.
struct Front {
    std::string name;
    std::vector<std::string> options;  // before the name of the configuration
    // The lines of README after which the proxy's own stand, for each place.
    std::vector<std::string> for_own_port;
    std::vector<std::string> for_port_of_site;
    std::string (*configuration)(const std::string& directory, const Ports& ports,
                                 const std::string& readme);
    std::vector<std::string> upload_paths = {"/upload"};
    bool bridges_the_gap = true;  // waits for maintd to take the site's port, rather than fail
    // Where it checks the site now and then, rather than ask it first each time, a wrong check
    // takes so long to show.
    std::chrono::seconds checks = 0s;
};

std::string squid(const std::string& directory, const Ports& ports, const std::string& readme) {
    return "http_port 127.0.0.1:" + std::to_string(ports.proxy) + " accel defaultsite=example\n" +
           readme + "negative_ttl 5 minutes\nhttp_access allow all\nvisible_hostname example\n" +
           "access_log none\ncache_log " + directory + "/log\npid_filename " + directory +
           "/pid\ncoredump_dir " + directory + "\npinger_enable off\n";
}

std::string nginx(const std::string& directory, const Ports& ports, const std::string& readme) {
    const bool caches = readme.find("proxy_cache_valid any 5m;") != std::string::npos;
    return nginx_configuration(
        directory, readme + (caches ? "" : "proxy_cache_valid any 5m;\n") + "proxy_cache_path " +
                       directory + "/cache keys_zone=pages:1m;\nproxy_cache pages;\n" +
                       "server {\nlisten 127.0.0.1:" + std::to_string(ports.proxy) +
                       ";\nlocation / { proxy_pass http://site; }\nlocation /unbuffered {\n" +
                       "proxy_pass http://site;\nproxy_request_buffering off;\n" +
                       "proxy_http_version 1.1;\n}\n}\n");
}

std::string haproxy(const std::string&, const Ports& ports, const std::string& readme) {
    return "defaults\n    mode http\n    timeout connect 5s\n    timeout client 60s\n"
           "    timeout server 60s\nfrontend visitors\n    bind 127.0.0.1:" +
           std::to_string(ports.proxy) + "\n    default_backend site\n" + readme;
}

const std::vector<Front> fronts = {
    {"squid", {"-N", "-f"}, {"Behind Squid"}, {"Behind Squid", "makes Squid wait"}, squid},
    {"nginx",
     {"-g", "daemon off;", "-c"},
     {"Behind nginx"},
     {"Behind nginx", "sees nginx's own"},
     nginx,
     {"/upload", "/unbuffered"},
     false},
    {"haproxy",
     {"-db", "-f"},
     {"Behind HAProxy"},
     {"has to expect 503"},
     haproxy,
     {"/upload"},
     true,
     8s},
};

class Proxy {
  public:
    Proxy(const Front& front, Place place, const Ports& ports) {
        std::string readme;
        for (const std::string& line :
             place == Place::own_port ? front.for_own_port : front.for_port_of_site)
            readme += readme_block(line, ports);
        const std::string file =
            directory_.write("proxy.conf", front.configuration(directory_.path, ports, readme));
        std::vector<std::string> arguments = front.options;
        arguments.insert(arguments.begin(), program(front.name));
        arguments.push_back(file);
        server_.emplace(std::move(arguments), ports.proxy);
    }

    bool runs() const { return server_->runs(); }

  private:
    Directory directory_;
    std::optional<Daemon> server_;
};

// Sends 30 MB with curl -T, which reads the answer while it sends, and requires maintd's page.
void upload_with_curl(std::uint16_t port, const std::string& path, const std::string& field) {
    static const TemporaryFile upload(std::string(30'000'000, 'x'));
    const TemporaryFile answer("");
    const Exit curl = run({program("curl"), "-sS", "--noproxy", "*", "-m", "30", "-H", field, "-T",
                           upload.path, "-o", answer.path, "-w", "%{http_code}",
                           "http://127.0.0.1:" + std::to_string(port) + path});
    INFO(path << " with " << field << ": " << curl.errors);
    CHECK(curl.status == 0);
    CHECK(curl.output == "503");
    const bool page = file_content(answer.path) == built_in_page();
    CHECK(page);
}

// What README tells the operator to wait before the site stops, and before maintd does: Squid looks
// for a peer that has been down once a second, HAProxy twice.
constexpr auto pause = 2s;

// A roll-out with the proxy up throughout. What visitors get from `began` to `over`, while maintd
// alone serves, is its page and nothing else, and no cache shows that to anybody later.
void play(const Front& front, Place place) {
    const Ports ports;
    Site site(ports.site);
    const Proxy proxy(front, place, ports);
    const auto outcome = [&](const std::string& method, const std::string& path) {
        return come(ports.proxy, request(method, path)).outcome;
    };
    REQUIRE(eventually([&] { return outcome("GET", "/") == Outcome::site; }));
    const std::vector visitors{request("GET", "/a"), request("HEAD", "/b"), request("GET", "/c")};
    Load load(ports.proxy, visitors);
    load.await(Outcome::site);

    std::optional<WaitingMaintd> maintd;
    Clock::time_point stopping;
    if (place == Place::port_of_site) {
        maintd.emplace(ports.site);
        stopping = Clock::now();
        site.stop("quit");
        maintd->error_line();
    } else {
        maintd.emplace(ports.maintd);
        maintd->error_line();
        std::this_thread::sleep_for(pause);
        stopping = Clock::now();
        site.stop("quit");
    }
    const Clock::time_point began = Clock::now();
    std::vector<std::string> paths;
    for (int i = 0; i < 20; ++i) paths.push_back("/page/" + std::to_string(i));
    for (const std::string& path : paths)
        for (const std::string method : {"GET", "HEAD", "GET"}) {
            INFO(method << " " << path);
            CHECK(outcome(method, path) == Outcome::page);
        }
    for (const std::string& path : front.upload_paths)
        for (const std::string field :
             {"Expect: 100-continue", "Expect:", "Transfer-Encoding: chunked"})
            for (int i = 0; i < 3; ++i) upload_with_curl(ports.proxy, path, field);
    do load.await(Outcome::page);
    while (Clock::now() < began + front.checks);
    const Clock::time_point over = Clock::now();

    // With a port of its own it goes when the site is back, else it makes room for the site.
    const auto stop = [&] {
        maintd->send_signal(SIGTERM);
        CHECK(maintd->wait().status == 0);
    };
    if (place == Place::port_of_site) stop();
    site.start();
    const Clock::time_point back = Clock::now();
    if (place == Place::own_port) {
        std::this_thread::sleep_for(pause);
        stop();
    }
    for (const std::string& path : paths) {
        INFO("after the roll-out: " << path);
        CHECK(outcome("GET", path) == Outcome::site);
    }
    load.await(Outcome::site);
    CHECK(proxy.runs());

    std::size_t visits = 0;
    std::size_t failures_before = 0;
    std::size_t failures_after = 0;
    double longest = 0;
    for (const Visit& each : load.end()) {
        const bool failed = each.outcome != Outcome::site && each.outcome != Outcome::page;
        ++visits;
        failures_before += failed && each.asked < began;
        failures_after += failed && each.ended > over;
        longest = std::max(longest, std::chrono::duration<double>(each.ended - each.asked).count());
        INFO(each.detail);
        const bool in_maintds_time = each.asked >= began && each.ended <= over;
        const bool in_sites_time =
            each.ended < stopping || (each.asked > back && front.checks == 0s);
        if (in_maintds_time) REQUIRE(each.outcome == Outcome::page);
        if (in_sites_time) REQUIRE(each.outcome == Outcome::site);
    }
    std::printf("%-7s on %s: %zu visits, longest %.2f s; errors before %zu, after %zu\n",
                front.name.c_str(),
                place == Place::own_port ? "a port of its own" : "the site's port", visits, longest,
                failures_before, failures_after);
    // Of those who are on their way when the site stops, at most one visit each, the site may cut
    // off some, which a proxy may not try again. All else would be our failure.
    if (place == Place::own_port || front.bridges_the_gap) {
        CHECK(failures_before <= visitors.size());
        CHECK(failures_after == 0);
    }
}

}  // namespace

TEST_CASE("A proxy goes over to maintd on a port of its own, and back by itself") {
    for (const Front& front : fronts) DYNAMIC_SECTION(front.name) {
            play(front, Place::own_port);
        }
}

TEST_CASE("A proxy shows maintd's page when that has taken the site's port, and never keeps it") {
    for (const Front& front : fronts) DYNAMIC_SECTION(front.name) {
            play(front, Place::port_of_site);
        }
}
