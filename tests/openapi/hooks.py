"""What schemathesis has to be told about this API."""

import schemathesis

# A component is bytes.
schemathesis.serializer.alias("application/wasm", "application/octet-stream")
