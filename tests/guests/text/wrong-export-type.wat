;; P2. Its `handle` has another type than the contract's.
;;; component
(component
    (core module $module (func (export "f")))
    (core instance $made (instantiate $module))
    (func $handle (canon lift (core func $made "f")))
    (instance $handler (export "handle" (func $handle)))
    (export "sluice:plugin/handler@0.1.0" (instance $handler)))
