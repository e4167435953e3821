;; P18. Asks for the environment, which no strict configuration gives.
;;; asks
wasi:cli/environment@0.2.0
