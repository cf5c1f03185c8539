"""Messages from a queue to a vendor, under the vendor's limit, from a whole fleet.

`Egress` takes messages from a queue, such as `RedisStreamsQueue` or `SqsQueue`, and calls a handler
for each under a token of a limiter, a permit and an open gate. `sqs_batch_handler` does the same for
a Lambda function that SQS invokes. docs/egress.md says which shape to choose.
"""

from tidegate.egress._lambda import sqs_batch_handler
from tidegate.egress._message import Message, PermanentFailure, Queue, RetryLater
from tidegate.egress._redis_streams import RedisStreamsQueue
from tidegate.egress._runner import Egress, EgressGauges, Outcome
from tidegate.egress._sqs import SqsQueue

__all__ = [
    "Egress",
    "EgressGauges",
    "Message",
    "Outcome",
    "PermanentFailure",
    "Queue",
    "RedisStreamsQueue",
    "RetryLater",
    "SqsQueue",
    "sqs_batch_handler",
]
