// One WebSocket connection, from the upgrade request to its close. It takes over the registration.
#pragma once

#include <boost/beast/http/message.hpp>
#include <boost/beast/http/string_body.hpp>

#include "server/http/connections.h"

namespace smelt {

// `peer`: the address at the other end.
asio::awaitable<void> serve_websocket(
    std::shared_ptr<ServerCore> core, tcp::socket socket, Registration& registration,
    const boost::beast::http::request<boost::beast::http::string_body>& upgrade, HttpRequest head,
    std::string peer);

}  // namespace smelt
