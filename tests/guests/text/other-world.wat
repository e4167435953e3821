;; P2. A component of another world: it serves HTTP by itself.
;;; component
(component
    (core module $module (func (export "f")))
    (core instance $made (instantiate $module))
    (func $handle (canon lift (core func $made "f")))
    (instance $handler (export "handle" (func $handle)))
    (export "wasi:http/incoming-handler@0.2.0" (instance $handler)))
