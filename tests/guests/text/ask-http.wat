;; P18. Asks for HTTP calls, which only those get that are granted hosts.
;;; asks
wasi:http/outgoing-handler@0.2.0
