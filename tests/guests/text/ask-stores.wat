;; P18. Asks for look-ups, which only those get that are granted stores.
;;; asks
wasi:keyvalue/store@0.2.0-draft
