require("express")().get("/", (request, response) => response.send("built\n")).listen(8000);
