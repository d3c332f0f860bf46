"""What the report lists of an export: each quantized file, and the bits of each node of a mixed one."""

from hfcompress.measure.report.details import bits, facts

MADE = [
    {"asked": "static", "method": "static int8", "nodes": {"MatMul": 18}, "kept_float": ["/head/Gemm"]},
    {
        "asked": "mixed",
        "method": "mixed precision",
        "nodes": {"MatMul": 2},
        "bits": [
            {"node": "/a/MatMul", "bits": 4, "loss": 2.5e-5, "bytes": 73728},
            {"node": "/b/MatMul", "bits": 32, "loss": 0.0, "bytes": 589824},
        ],
    },
]


def told(export):
    return {title: dict(rows) for title, rows in facts({"models": []}, {"export": export})}


def test_one_quantized_file():
    found = told({"quantization": MADE[0]})
    assert found["Export"] == {
        "quantization": "static int8",
        "quantized nodes": "18 MatMul",
        "left in float": "/head/Gemm",
    }
    assert bits({"export": {"quantization": MADE[0]}}) == bits(None) == []


def test_several_and_the_bits_of_each_node():
    found = told({"quantization": MADE[0], "quantizations": MADE})
    assert found["Export"]["quantization (static)"] == "static int8"
    assert found["Export"]["quantized nodes (mixed)"] == "2 MatMul"
    assert bits({"export": {"quantization": MADE[0], "quantizations": MADE}}) == [
        {"node": "/a/MatMul", "bits": "4", "kilobytes": "74", "loss": "2.5e-05"},
        {"node": "/b/MatMul", "bits": "float", "kilobytes": "590", "loss": ""},
    ]
