// Pipeline: many calls in each message, answered in any order. One write is in the air each way; all that is ready goes
// into the next message. Each stream's object ends itself, when its reads have ended, no write is in the air and no call
// is under way.
#ifndef STM_SERVER_PIPELINE_H_
#define STM_SERVER_PIPELINE_H_

#include <grpcpp/support/server_callback.h>

#include "server/node.h"
#include "stm/v1/transaction_service.pb.h"

namespace stm::server {

grpc::ServerBidiReactor<v1::PipelineRequest, v1::PipelineResponse>* NewPipeline(Node* node,
                                                                                grpc::CallbackServerContext* context);

}  // namespace stm::server

#endif  // STM_SERVER_PIPELINE_H_
