from flask import Flask

app = Flask(__name__)


@app.get("/")
def index():
    return "built\n"


app.run("0.0.0.0", 8000)
