// The server as a whole: routes, guards and models behind one HttpHandler. apps/serve.cpp runs it.
#pragma once

#include "server/routes.h"

namespace smelt {

class ApiServer final : public HttpHandler {
 public:
    explicit ApiServer(ServerContext& context) : context_(context) {}

    std::optional<HttpAnswer> refuse(const HttpRequest& head) override;
    bool is_short(const HttpRequest& request) override;
    void handle(const HttpRequest& request, const std::shared_ptr<Exchange>& exchange,
                const WorkerTurn& turn) override;
    std::string client_of(const HttpRequest& head) override;
    std::shared_ptr<WebSocketListener> open_websocket(const HttpRequest& head,
                                                      std::shared_ptr<WebSocketPeer> peer) override;
    HttpAnswer error(int status, std::string_view code, std::string_view message) override;
    HttpHeaders common_headers(const HttpRequest& head) override;

 private:
    std::optional<HttpAnswer> find_refusal(const HttpRequest& head);

    ServerContext& context_;
};

}  // namespace smelt
